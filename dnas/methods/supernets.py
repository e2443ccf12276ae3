"""The supernet that a method searches."""

import inspect

from dnas.checks import checked
from dnas.methods.method import Method
from dnas.model import Model
from dnas.space import SearchSpace
from dnas.tasks import Task


@checked
def supernet_of(
    space: SearchSpace,
    task: Task,
    method: Method,
    *,
    channels: int | None = None,
    num_cells: int | None = None,
    one_hot: bool = False,
) -> Model:
    """Returns the supernet of the space for the task, with the options of the method.

    Args:
      channels, num_cells: those of the method, or else of the space, unless given.

      one_hot: whether all mixes that it will see are one-hot, so that ops that are off need not
        run, where supernets of the space can leave them out.

    Raises:
      ValueError: for sizes that do not fit the inputs, and for options that it does not have.
    """
    sizes = {"channels": space.channels, "num_cells": space.num_cells}
    if method.training is not None:
        sizes["channels"] = method.training.channels or sizes["channels"]
        sizes["num_cells"] = method.training.num_cells or sizes["num_cells"]
    if channels is not None:
        sizes["channels"] = channels
    if num_cells is not None:
        sizes["num_cells"] = num_cells
    space.layers(**sizes, **task.sizes)  # refuses sizes that do not fit the inputs
    options = dict(method.options)
    if one_hot and "sampled" in inspect.signature(space.supernet).parameters:
        options["sampled"] = True
    return space.supernet(**sizes, num_classes=task.num_classes, **options)
