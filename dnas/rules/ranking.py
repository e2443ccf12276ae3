"""The second criterion of DARTS+: stop when the ranking of the ops has settled.
https://arxiv.org/abs/1909.06035."""

from typing import NamedTuple

import numpy as np

from dnas.base import AnyArray, Mix
from dnas.checks import checked
from dnas.choices import Choices
from dnas.rules.rule import Observed, Rule, Verdict, kept_mix, zero_mix
from dnas.space import SearchSpace


class RankingState(NamedTuple):
    # {kind: [E]}: the strongest op of each edge; -1 before the first epoch that counts.
    first: dict[str, np.ndarray]
    unchanged: np.ndarray  # []: for how many epochs they have been the strongest
    mix: Mix  # {kind: [E, O]} of the epoch since which they are


@checked
def ranking(*, patience: int = 10, from_epoch: int = 1) -> Rule:
    """Returns the guard that stops when no edge has changed its strongest op for `patience` epochs.

    DARTS+, criterion 1*. `none` is left out, as it is when a genotype is derived. The mix is that
    of the epoch since which the ops are what they are: later ones only push the weights on. The
    paper takes the epoch of the stop, which has the same strongest ops, though the order of the
    edges may have changed. How long the ranking has held is logged as "unchanged".

    Args:
      patience: epochs without a change.
      from_epoch: the first epoch to count. Must lie behind a warm-up of the weights, during which
        arch does not move.

    Raises:
      ValueError: if patience is below 1.

    Example:
      >>> import dnas
      >>> ranking().init(dnas.SPACES["darts"], 50).first["normal"].shape
      (14,)
    """
    if patience < 1:
        raise ValueError(f"a ranking settles after at least one epoch, got patience = {patience}")

    def init(space: SearchSpace, epochs: int) -> RankingState:
        first = {kind: np.full(len(own.rows), -1) for kind, own in space.choices.items()}
        return RankingState(first, np.asarray(0), zero_mix(space))

    def update(state: RankingState, observed: Observed) -> tuple[RankingState, Verdict]:
        if observed.epoch < from_epoch:
            return state, Verdict(metrics={"unchanged": 0.0})
        first = {
            kind: _strongest(choices, observed.mix[kind])
            for kind, choices in observed.space.choices.items()
        }
        if any((first[kind] != state.first[kind]).any() for kind in first):
            return RankingState(first, np.asarray(0), kept_mix(observed.mix)), Verdict(
                metrics={"unchanged": 0.0}
            )
        unchanged = state.unchanged + 1
        stop = bool(unchanged >= patience)
        verdict = Verdict(
            stop=stop, mix=state.mix if stop else None, metrics={"unchanged": float(unchanged)}
        )
        return state._replace(unchanged=np.asarray(unchanged)), verdict

    return Rule(init, update)


def _strongest(choices: Choices, rows: AnyArray) -> np.ndarray:
    return np.where(choices.is_nothing, -np.inf, np.asarray(rows)).argmax(1)
