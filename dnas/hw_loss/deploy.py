"""From a search to a network that meets its target when it runs: derive, measure, move the bound,
derive again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dnas.base import Mix
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.hw_loss.feasible import check_bound, feasible_range
from dnas.hw_loss.program import Limits
from dnas.hw_loss.repair import approach, repair
from dnas.selection import default_selection
from dnas.space import SearchSpace, check_genotype, one_hot_mix

_ATTEMPTS = 4  # to find a genotype that has not been measured yet, for each round
_NUDGE = 0.02  # by which a bound moves where it has led to a genotype that was measured before

Measure = Callable[[Genotype], float]  # what its network costs, in the unit of the prediction


class Proof(NamedTuple):
    """What a genotype costs by one limit, in the unit of its cost."""

    bound: float  # of the prediction, under which it was derived
    predicted: float
    measured: float | None  # None where nothing measures this cost
    miss: float  # the share of the limit by which it is missed; 0 where it is met


class Round(NamedTuple):
    """A genotype that was derived, and its costs."""

    genotype: Genotype
    proofs: tuple[Proof, ...]  # one for each limit

    @property
    def miss(self) -> float:
        """The largest share by which it misses a limit."""
        return max((proof.miss for proof in self.proofs), default=0.0)


class Deployed(NamedTuple):
    """The genotype that comes nearest to its limits, and how it was found."""

    genotype: Genotype
    rounds: tuple[Round, ...]  # every genotype that was derived, in their order
    met: bool  # whether it meets all limits
    notes: tuple[str, ...]  # what went otherwise than asked for, in words

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """What the genotype costs by each limit."""
        return next(own.proofs for own in self.rounds if own.genotype == self.genotype)


@checked
def deploy(
    space: SearchSpace,
    genotype: Genotype,
    mix: Mix,
    limits: Limits,
    *,
    measures: Sequence[Measure | None] = (),
    equality: bool = False,
    rounds: int = 6,
    tolerance: float = 0.02,
) -> Deployed:
    """Returns the genotype that meets its limits when its network runs.

    A prediction is off by some per cent; what counts is the network that runs. So the genotype is
    brought within the limits by what is predicted (`repair`, or `approach` for an equality), and
    measured. Where it misses a limit, the bound of the prediction moves by as much,

      bound = predicted * limit / measured,

    and the genotype is derived again from the same mix. A bound that leads to a genotype that was
    measured before moves by another 2 % against its miss. The loop ends with a genotype that meets
    all limits, after `rounds` measurements, or where no other genotype is found. Nothing is
    measured twice, and of all that were, the one that came nearest is returned.

    A genotype with a cell through which no path leads costs nothing and computes nothing: it is
    first read again from the mix without the options that compute nothing.

    Args:
      genotype: what a selection has read from `mix` {kind: [E, O]}.
      limits: pairs (cost, bound): what predicts, and what may be at most or is to be.
      measures: for each limit what measures a genotype's network, such as the median of
        `measure_networks` in any `Runtime`; None for a limit whose prediction is exact, or cannot
        be checked. Without them a genotype is derived once.
      equality: whether limits are targets that are to be reached from below as well.
      rounds: how many genotypes are measured at the most.
      tolerance: the share by which an equality may be missed.

    Raises:
      ValueError: if the genotype does not fit the space, no genotype meets a limit (it names the
        range), there are not as many measures as limits, or less than one round.

    Example, on a device that takes a tenth more than is predicted:
      >>> import dnas
      >>> space, sizes = dnas.SPACES["darts"], dict(channels=4, num_cells=3)
      >>> table = dnas.hw_loss.count_table(space, **sizes)
      >>> cost = dnas.hw_loss.expected_cost(table, space.parts(**sizes), metric="macs")
      >>> genotype = dnas.PUBLISHED["DARTS_V2"]
      >>> mix = dnas.one_hot_mix(space, genotype)
      >>> measure = lambda genotype: 1.1 * float(cost(dnas.one_hot_mix(space, genotype)))
      >>> limit = 0.9 * float(cost(mix))
      >>> deployed = deploy(space, genotype, mix, [(cost, limit)], measures=[measure])
      >>> deployed.met, measure(deployed.genotype) <= limit
      (True, True)
    """
    measures = measures or (None,) * len(limits)
    if len(measures) != len(limits):
        raise ValueError(
            f"each limit has a measure or None, got {len(measures)} for {len(limits)} limits"
        )
    if rounds < 1:
        raise ValueError(f"a genotype is derived at least once, got rounds = {rounds}")
    check_genotype(space, genotype)
    for cost, limit in limits:
        check_bound(cost, limit)

    notes = []
    if not all(spec.live_edges_of(genotype.cells[kind]) for kind, spec in space.cells.items()):
        notes.append(
            "a searched cell has no path from its inputs to its output; it is read again without"
            " what computes nothing"
        )
        genotype = _read_without_nothing(space, mix)

    exchange = approach if equality else repair
    enough = tolerance if equality else 0.0
    found: dict[Genotype, Round] = {}
    bounds = [limit for _, limit in limits]
    for _ in range(_ATTEMPTS * rounds):
        moved = [(cost, bound) for (cost, _), bound in zip(limits, bounds, strict=True)]
        try:
            derived = exchange(space, genotype, mix, moved)
        except ValueError as error:
            if found:
                break
            # Each limit can be met, but not all at once: what the search has found is not lost.
            notes.append(f"the genotype exceeds its targets: {error}")
            derived = genotype

        is_new = derived not in found
        if is_new:
            found[derived] = _proved(space, derived, limits, bounds, measures, equality)
            if found[derived].miss <= enough or len(found) == rounds:
                break

        before, bounds = bounds, []
        for (cost, limit), bound, proof in zip(limits, before, found[derived].proofs, strict=True):
            if proof.measured is not None and proof.miss > enough:
                if is_new:
                    bound = proof.predicted * limit / proof.measured
                else:
                    bound *= 1 - _NUDGE if proof.measured > limit else 1 + _NUDGE
                bound = max(bound, feasible_range(cost).least)
            bounds.append(bound)
        if bounds == before:
            break

    best = min(found.values(), key=lambda own: own.miss)
    return Deployed(best.genotype, tuple(found.values()), best.miss <= enough, tuple(notes))


def _proved(
    space: SearchSpace,
    genotype: Genotype,
    limits: Limits,
    bounds: Sequence[float],
    measures: Sequence[Measure | None],
    equality: bool,
) -> Round:
    """Predicts and measures what a genotype costs."""
    mix = one_hot_mix(space, genotype)
    proofs = []
    for (cost, limit), bound, measure in zip(limits, bounds, measures, strict=True):
        predicted = cost.discrete(mix)
        measured = None if measure is None else measure(genotype)
        off = (predicted if measured is None else measured) / limit - 1
        miss = abs(off) if equality else max(off, 0.0)
        proofs.append(Proof(bound, predicted, measured, miss))
    return Round(genotype, tuple(proofs))


def _read_without_nothing(space: SearchSpace, mix: Mix) -> Genotype:
    computing = {
        kind: np.asarray(mix[kind]) * choices.computes for kind, choices in space.choices.items()
    }
    return default_selection(space, computing)
