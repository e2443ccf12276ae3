"""What the best of some draws is on average."""

from collections.abc import Iterable

import numpy as np


def expected_best_of(values: Iterable[float], n: int, *, replace: bool = True) -> float:
    """Returns the mean, over all draws of n of the values, of the highest value drawn.

    Exact: with replacement the best of n draws is at most the i-th lowest of N values with the
    probability (i / N)**n, and without with C(i, n) / C(N, n). What is seen as the best is known
    to be so; a search that sees something else has to be better than chance to reach it.

    Args:
      values: all that may be drawn; more is better.
      n: how many are drawn.
      replace: whether a value may be drawn again.

    Raises:
      ValueError: for no draw, no value, or without replacement more draws than values.

    Example:
      >>> (
      ...     expected_best_of([1, 2, 3, 4], 2),
      ...     round(expected_best_of([1, 2, 3, 4], 2, replace=False), 4),
      ... )
      (3.125, 3.3333)
    """
    ordered = np.sort(np.asarray([*values], np.float64))
    if n < 1 or not ordered.size:
        raise ValueError(
            f"the best of at least 1 draw of at least 1 value was asked for, got n = {n} and"
            f" {ordered.size} values"
        )
    if not replace and n > ordered.size:
        raise ValueError(
            f"without replacement {n} of {ordered.size} values cannot be drawn; draw fewer, or with"
            " replacement"
        )
    number = np.arange(ordered.size + 1)
    if replace:
        at_most = (number / ordered.size) ** n
    else:
        at_most = np.ones(ordered.size + 1)
        for drawn in range(n):  # C(i, n) / C(N, n), factor by factor: binomials would overflow
            at_most *= np.maximum(number - drawn, 0) / (ordered.size - drawn)
    return float(np.dot(np.diff(at_most), ordered))
