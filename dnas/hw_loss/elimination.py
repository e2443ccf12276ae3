"""The best of all combinations of options, found without going through them: variable elimination.

A cost that is a sum (or a largest) over terms of few rows each is minimised row by row: all terms
that a row is in become one table over the rows beside it, in which the row has its best option. In
a chain of blocks these tables stay as small as the terms are.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_MOST_ENTRIES = 10**6  # of a table

Row = tuple[str, int]  # kind, row
Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # np.add or np.maximum


class Factor(NamedTuple):
    """What each combination of the options of some rows costs."""

    rows: tuple[Row, ...]
    costs: np.ndarray  # an axis a row

    def at(self, columns: Mapping[Row, int]) -> float:
        """Returns what these options cost."""
        return float(self.costs[tuple(columns[row] for row in self.rows)])


def best_columns(
    factors: Sequence[Factor],
    allowed: Mapping[Row, np.ndarray],
    *,
    largest: bool,
    combine: Combine = np.add,
) -> dict[Row, int] | None:
    """Returns for every row the column with which the factors together cost least, or most; None
    where that would take a table of more than a million entries.

    Args:
      allowed: {row: bool [O]}, which options it may have.
      combine: of the costs of two factors.

    Example:
      >>> pair = Factor((("a", 0), ("b", 0)), np.array([[3.0, 2.0], [1.0, 4.0]]))
      >>> both = np.ones(2, bool)
      >>> sorted(best_columns([pair], {("a", 0): both, ("b", 0): both}, largest=False).items())
      [(('a', 0), 1), (('b', 0), 0)]
    """
    remaining, left, steps = list(factors), set(allowed), []
    while left:
        scopes = {row: _scope(remaining, row) for row in sorted(left)}
        entries = {row: math.prod(len(allowed[own]) for own in scopes[row]) for row in scopes}
        row = min(scopes, key=entries.__getitem__)
        if entries[row] > _MOST_ENTRIES:
            return None

        # All that the row is in, as one table whose first axis is the row.
        scope = scopes[row]
        table = np.zeros([len(allowed[own]) for own in scope])
        spread = [_spread(factor, scope) for factor in remaining if row in factor.rows]
        table = functools.reduce(combine, spread, table)
        table[~allowed[row]] = -math.inf if largest else math.inf

        steps.append((row, scope[1:], table.argmax(axis=0) if largest else table.argmin(axis=0)))
        rest = Factor(scope[1:], table.max(axis=0) if largest else table.min(axis=0))
        remaining = [factor for factor in remaining if row not in factor.rows] + [rest]
        left.remove(row)

    columns: dict[Row, int] = {}
    for row, others, best in reversed(steps):
        columns[row] = int(best[tuple(columns[own] for own in others)])
    return columns


def good_columns(
    factors: Sequence[Factor],
    allowed: Mapping[Row, np.ndarray],
    *,
    largest: bool,
    combine: Combine = np.add,
) -> dict[Row, int]:
    """Returns columns that no change of a single row makes better, for what is too large for
    `best_columns`."""
    columns = {row: int(own.argmax()) for row, own in allowed.items()}
    sign = -1 if largest else 1

    def value(row: Row, column: int) -> float:
        changed = {**columns, row: column}
        costs = [np.asarray(factor.at(changed)) for factor in factors]
        return sign * float(functools.reduce(combine, costs, np.zeros(())))

    changed = True
    while changed:
        changed = False
        for row, own in allowed.items():
            best = min(np.flatnonzero(own).tolist(), key=functools.partial(value, row))
            if value(row, best) < value(row, columns[row]):
                columns[row], changed = best, True
    return columns


def _scope(factors: Sequence[Factor], row: Row) -> tuple[Row, ...]:
    """The row, and all that share a factor with it."""
    others = {own for factor in factors if row in factor.rows for own in factor.rows}
    return (row, *sorted(others - {row}))


def _spread(factor: Factor, scope: tuple[Row, ...]) -> np.ndarray:
    """The costs of a factor with an axis for each row of a larger scope, in its order."""
    order = sorted(range(len(factor.rows)), key=lambda axis: scope.index(factor.rows[axis]))
    shape = [1] * len(scope)
    for row, size in zip(factor.rows, factor.costs.shape, strict=True):
        shape[scope.index(row)] = size
    return factor.costs.transpose(order).reshape(shape)
