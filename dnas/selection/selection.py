"""What a selection is, and what every selection needs."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from dnas.base import Mix
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.space import Picked, SearchSpace, genotype_of

Selection = Callable[[SearchSpace, Mix], Genotype]

# [E][O], minus infinity for an option that its row does not have.
Weights = Sequence[Sequence[float]]
# (kind, choices, weights) -> (row, column) of each row that is kept.
Read = Callable[[str, Choices, Weights], Sequence[tuple[int, int]]]


def genotype_by(space: SearchSpace, mix: Mix, read: Read) -> Genotype:
    """Returns the genotype whose kinds are read one by one.

    Raises:
      ValueError: if the mix does not fit the space or holds a NaN.
    """
    return genotype_of(space, picked_by(space, mix, read))


def picked_by(space: SearchSpace, mix: Mix, read: Read) -> Picked:
    """Returns the rows that are kept, and their options, of `genotype_by`."""
    return {
        kind: read(kind, choices, checked_rows(space, kind, mix))
        for kind, choices in space.choices.items()
    }


def checked_rows(space: SearchSpace, kind: str, mix: Mix) -> list[list[float]]:
    """Returns the mix of one kind as plain numbers, minus infinity for an option that its row does
    not have.

    Raises:
      ValueError: if the mix does not fit the space or holds a NaN.
    """
    choices = space.choices[kind]
    if kind not in mix:
        raise ValueError(
            f"the mix has no cell {kind!r}; it has {sorted(mix)}, and the space {space.name!r} has"
            f" {sorted(space.choices)}"
        )
    rows = np.asarray(mix[kind], float)
    if rows.shape != choices.shape:
        raise ValueError(
            f"the mix of cell {kind!r} has shape {rows.shape}, expected {choices.shape}"
        )
    if np.isnan(rows).any():
        raise ValueError(
            f"the mix of cell {kind!r} holds NaN: the search has diverged; lower its learning rates"
        )
    return np.where(choices.allowed, rows, -math.inf).tolist()


def best_options(choices: Choices, weights: Weights) -> list[tuple[float, int]]:
    """Returns of each row (weight, column) of its strongest option that computes something; on a
    tie the earlier option."""
    columns = np.flatnonzero(~choices.is_nothing).tolist()
    best = [max(columns, key=row.__getitem__) for row in weights]
    return [(row[column], column) for row, column in zip(weights, best, strict=True)]


def by_group(
    choices: Choices,
    weights: Weights,
    keep: Callable[[Sequence[int], Sequence[float]], Sequence[int]],
) -> list[tuple[int, int]]:
    """Returns the rows that are kept, each with its strongest option that computes something.

    Args:
      keep: (the rows of a group by falling strength, the strength of every row) -> those that it
        keeps. On a tie the earlier row comes first. Rows that compete with none are kept.
    """
    best = best_options(choices, weights)
    strengths = [weight for weight, _ in best]
    picked = []
    for group in choices.together:
        falling = sorted(group, key=lambda row: -strengths[row])
        kept = keep(falling, strengths) if group in choices.groups else group
        picked += [(row, best[row][1]) for row in kept]
    return picked
