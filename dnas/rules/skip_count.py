"""The first criterion of DARTS+: stop when skip connections take over.
https://arxiv.org/abs/1909.06035."""

from typing import NamedTuple

import numpy as np

from dnas.base import Mix
from dnas.checks import checked
from dnas.rules.rule import Observed, Rule, Verdict, kept_mix, zero_mix
from dnas.selection import Selection, default_selection
from dnas.space import SearchSpace


class SkipCountState(NamedTuple):
    within: np.ndarray  # [] bool: whether any epoch has been within the bound
    mix: Mix  # {kind: [E, O]} of the last epoch within the bound


@checked
def skip_count(
    *,
    max_skips: int = 1,
    selection: Selection = default_selection,
    kind: str = "normal",
    op: str = "skip_connect",
    from_epoch: int = 10,
    at_stop: bool = False,
) -> Rule:
    """Returns the guard that stops when the derived cell of one kind has more than `max_skips` skip
    connections.

    DARTS+, criterion 1: two or more in the normal cell. The paper keeps the genotype of the epoch
    that it stops at, which has one skip too many; here the mix is that of the last epoch within the
    bound, unless there was none or `at_stop` is set. The number is logged as "skips".

    Args:
      max_skips: the most that are allowed, 1 in the paper.
      selection: derives the genotype, that of the space unless given.
      kind, op: what is counted where.
      from_epoch: the first epoch to stop after. The paper names none, but while arch is near its
        random start a third of all derived cells have two skips.
      at_stop: return the genotype at the stop, as the paper does.

    Raises:
      ValueError: if max_skips is negative, or at the start of a search if the space has no such
        kind.

    Example:
      >>> import dnas
      >>> skip_count().init(dnas.SPACES["darts"], 50).within
      array(False)
    """
    if max_skips < 0:
        raise ValueError(f"max_skips is a number of edges, at least 0, got {max_skips}")

    def init(space: SearchSpace, epochs: int) -> SkipCountState:
        if kind not in space.choices:
            raise ValueError(
                f"the space {space.name!r} has no cell of kind {kind!r}; choose from:"
                f" {', '.join(space.choices)}"
            )
        return SkipCountState(np.asarray(False), zero_mix(space))

    def update(state: SkipCountState, observed: Observed) -> tuple[SkipCountState, Verdict]:
        skips = selection(observed.space, observed.mix).count(op)[kind]
        metrics = {"skips": float(skips)}
        if skips <= max_skips:
            return SkipCountState(np.asarray(True), kept_mix(observed.mix)), Verdict(
                metrics=metrics
            )
        earlier = state.mix if state.within and not at_stop else None
        stop = observed.epoch >= from_epoch
        return state, Verdict(stop=stop, mix=earlier if stop else None, metrics=metrics)

    return Rule(init, update)
