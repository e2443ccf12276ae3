"""A published method: a function of a space that returns a `Method`, with its paper's settings in
every family of spaces that it is for."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dnas.checks import MOST_SEED, at_least, checked
from dnas.files import shown
from dnas.methods.method import Method, every_stage
from dnas.methods.training import FAMILIES, Training
from dnas.space import SearchSpace
from dnas.tasks import Task, images

_SHARED = tuple(field.name for field in dataclasses.fields(Training))
Settings = Mapping[str, Mapping[str, Any]]  # {family of spaces: {name: value}}


class Published:
    """A method with its published settings. Called with a space, the steps of an epoch and whatever
    is to differ from the published settings, it returns the `Method`.

    Attributes:
      name, paper, url: of the method, and of where it was published.
      settings: {family: {name: value}}, what differs from DARTS's settings (`Training`) and those
        of the family (`FAMILIES`), and the settings that only this method has. A family that is not
        in it cannot have the method.
      retraining: {family: {name: value}}, what differs in the training of its final networks.
      space: the name of the published space.
    """

    def __init__(
        self,
        build: Callable[..., Method],
        *,
        paper: str,
        url: str,
        settings: Settings,
        retraining: Settings,
        space: str,
    ):
        functools.update_wrapper(self, build)
        self.build = checked(build)
        self.name: str = build.__name__
        self.paper, self.url = paper, url
        self.settings, self.retraining, self.space = settings, retraining, space

    def layers(self, space: SearchSpace) -> dict[str, Mapping[str, Any]]:
        """Returns {where from: {name: value}}: the settings in this space, in layers of which the
        later go before the earlier.

        Raises:
          ValueError: if the method is not for such spaces.
        """
        family = space.family
        if family not in self.settings:
            raise ValueError(
                f"the method {self.name!r} is not for the space {space.name!r}: its paper has no"
                f" search of the kind {family!r}; choose a space of the kind"
                f" {' or '.join(map(repr, self.settings))}, such as {self.space!r}"
            )
        shared = {field.name: field.default for field in dataclasses.fields(Training)}
        del shared["steps_per_epoch"]
        return {
            "DARTS": shared,
            f"spaces of the kind {family}": FAMILIES[family],
            self.paper: self.settings[family],
        }

    def settings_in(self, space: SearchSpace) -> dict[str, Any]:
        """Returns {name: value}, the published settings in this space.

        Raises:
          ValueError: if the method is not for such spaces.
        """
        merged = {}
        for layer in self.layers(space).values():
            merged |= layer
        return merged

    @checked
    def __call__(self, space: SearchSpace, *, steps_per_epoch: int, **changes: Any) -> Method:
        """Returns the method in this space.

        Args:
          steps_per_epoch: of the search, at its batch size; `for_task` knows them.
          changes: settings in place of the published ones.

        Raises:
          ValueError: if the method is not for such spaces, or has no setting of a name.
        """
        settings = self.settings_in(space)
        for name in changes:
            if name not in settings:
                raise ValueError(_no_setting(self.name, name, settings))
        settings |= changes
        shared = {name: settings.pop(name) for name in _SHARED if name in settings}
        training = Training(steps_per_epoch=steps_per_epoch, **shared)
        method = self.build(space, training, **settings)._replace(training=training)
        return every_stage(method, lambda stage: stage._replace(single_level=training.single_level))

    @checked
    def for_task(self, space: SearchSpace, task: Task | tuple[Any, Any], **changes: Any) -> Method:
        """Returns the method in this space, with the steps that an epoch of the task has.

        Args:
          task: what is learnt, or a pair of images and labels, as `run_search` takes it.
          changes: settings in place of the published ones.

        Raises:
          ValueError: as a call, and where the task has less than a batch.
        """
        settings = self.settings_in(space) | changes
        levels = 1 if settings["single_level"] else 2
        at_least(0, most=MOST_SEED, seed=settings["seed"])
        task = task if isinstance(task, Task) else images(*task)
        feeds = task.feeds(settings["seed"], settings["batch_size"], levels)
        return self(space, steps_per_epoch=feeds[0].steps, **changes)


def _no_setting(method: str, name: str, settings: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, settings, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return (
        f"the method {shown(method)} has no setting {shown(name)}{meant} It has:"
        f" {', '.join(sorted(settings))}"
    )


def published(
    paper: str,
    url: str,
    *,
    settings: Settings,
    retraining: Settings = MappingProxyType({}),
    space: str = "darts",
) -> Callable[[Callable[..., Method]], Published]:
    """Returns what makes a `Published` of a function (space, training, settings of its own as
    keywords) -> Method.

    Args:
      paper, url: where the method was published.
      settings, retraining, space: as in `Published`.
    """

    def decorate(build: Callable[..., Method]) -> Published:
        return Published(
            build, paper=paper, url=url, settings=settings, retraining=retraining, space=space
        )

    return decorate
