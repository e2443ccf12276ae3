"""How a genotype is brought within bounds, or to targets: what is exchanged loses least of the mix
that it was read from."""

import itertools
from collections.abc import Mapping

import numpy as np

from dnas.base import Mix
from dnas.checks import checked
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.hw_loss.feasible import check_bound
from dnas.hw_loss.program import Found, Limits, Networks, Rows, total
from dnas.space import SearchSpace, genotype_of, one_hot_mix, picked_of

# What an option is worth that the genotype has, so that none is exchanged for nothing; less than
# what float32 tells apart in a mix.
_UNCHANGED = 1e-9


@checked
def repair(space: SearchSpace, genotype: Genotype, mix: Mix, limits: Limits) -> Genotype:
    """Returns the genotype that loses least of the mix, of all that meet every limit.

    What is lost is the difference of the weights of the options that are exchanged, on other edges
    too where nodes keep some of theirs; of several that lose as much it is one of the fewest
    exchanges. Exchanging an option for one of more weight, which the selection did not want, gains
    nothing. It is found by an integer program, see `program.py`: exactly, unless the solver gives
    up, which no space here has made it do. A genotype within the limits comes back as it is, and
    every cell of others has a path from its inputs to its output.

    Args:
      mix: {kind: [E, O]}, what the genotype was read from.
      limits: pairs (cost, bound), such as a latency and an energy. The cost is that of discrete
        networks, no expectation.

    Raises:
      ValueError: if the genotype does not fit the space, no genotype meets a bound (it names the
        range), or none meets all of them.
    """
    for cost, bound in limits:
        check_bound(cost, bound)
    chosen = one_hot_mix(space, genotype)
    if all(cost.meets(chosen, bound) for cost, bound in limits):
        return genotype

    picked = _with_what_is_left_out(space, genotype)
    networks = Networks(space.cells, space.choices, picked)
    worth = networks.worth(_worths(space, picked, mix))
    return _exchanged(space, genotype, networks.best_within(worth, limits).rows)


@checked
def approach(
    space: SearchSpace, genotype: Genotype, mix: Mix, targets: Limits, *, tolerance: float = 0.01
) -> Genotype:
    """Returns the genotype that comes nearest to every target, from both sides, and of those the
    one that loses least of the mix.

    Near is what misses a target by no more than `tolerance`; beyond it relative distances are
    summed over the targets. What is lost is that of `repair`, and so is how it is found. A genotype
    that near comes back as it is.

    Args:
      mix, targets: as `repair` has mix and limits.
      tolerance: largest distance of a cost from its target, as a share of it.

    Raises:
      ValueError: if the genotype does not fit the space, or a target is below what any genotype
        costs (it names the range).
    """
    for cost, target in targets:
        check_bound(cost, target)
    chosen = one_hot_mix(space, genotype)
    if all(abs(cost.discrete(chosen) / target - 1) <= tolerance for cost, target in targets):
        return genotype

    picked = _with_what_is_left_out(space, genotype)
    networks = Networks(space.cells, space.choices, picked)
    missed = total(
        networks.distance(networks.cost(cost), target, tolerance) for cost, target in targets
    )
    nearest = _some(networks.best(missed, largest=False))
    networks.limit(missed, nearest.value)
    best = networks.best(networks.worth(_worths(space, picked, mix)), largest=True)
    return _exchanged(space, genotype, (best or nearest).rows)


def _some(found: Found | None) -> Found:
    if found is None:
        raise ValueError(
            "no genotype of as many edges as this one has a path from its inputs to its output"
        )
    return found


Options = dict[str, dict[int, int]]  # {kind: {row: column}}


def _with_what_is_left_out(space: SearchSpace, genotype: Genotype) -> Options:
    """The options of a genotype, and of rows that it leaves out for having one that computes
    nothing, that one."""
    picked = {kind: dict(own) for kind, own in picked_of(space, genotype).items()}
    for kind, choices in space.choices.items():
        nothing = choices.allowed & choices.is_nothing
        for row in np.flatnonzero(nothing.any(axis=-1) & (choices.keep is None)).tolist():
            picked[kind].setdefault(row, int(nothing[row].argmax()))
    return picked


def _worths(space: SearchSpace, picked: Options, mix: Mix) -> dict[str, np.ndarray]:
    """What each option of each row is worth, {kind: [E, O]}: its weight, but never more than that
    of what it would be exchanged for."""
    worths = {}
    for kind, choices in space.choices.items():
        weights = np.asarray(mix[kind], np.float64)
        worths[kind] = np.minimum(weights, _most(choices, picked[kind], weights)[:, None])
        for row, column in picked[kind].items():
            worths[kind][row, column] += _UNCHANGED
    return worths


def _most(choices: Choices, picked: Mapping[int, int], weights: np.ndarray) -> np.ndarray:
    """[E]: the weight that a row has now, or where it has no place the least of those in its
    group that have one."""
    most = np.full(len(choices.rows), np.inf)
    for group in choices.together:
        kept = {row: weights[row, picked[row]] for row in group if row in picked}
        for row in group:
            most[row] = kept.get(row, min(kept.values(), default=np.inf))
    return most


def _exchanged(space: SearchSpace, genotype: Genotype, rows: Rows) -> Genotype:
    """The genotype with the options of one-hot rows, in the order of its own as far as they are
    there."""
    picked = {}
    for kind, before in picked_of(space, genotype).items():
        choices = space.choices[kind]
        columns = {
            row: int(rows[kind][row].argmax())
            for row in np.flatnonzero(rows[kind].any(axis=-1)).tolist()
        }
        listed = {row for row, _ in before}
        # Other rows take the places of those that are no longer there.
        new = {
            group: [row for row in group if row in columns and row not in listed]
            for group in choices.together
        }
        picked[kind] = []
        for row, _ in before:
            if row not in columns:
                row = new[choices.group_of(row)].pop(0)
            picked[kind].append((row, columns[row]))
        # And rows that were left out, where they now compute something.
        for row in itertools.chain.from_iterable(new.values()):
            if not choices.is_nothing[columns[row]]:
                picked[kind].append((row, columns[row]))
    return genotype_of(space, picked, genotype.concat)
