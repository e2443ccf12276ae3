"""What a predictor is."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """What a predictor expects of architectures."""

    mean: np.ndarray  # [M], in normal scores of the values that were fitted
    spread: np.ndarray  # [M], how far off it may be: a deviation


class Predictor(NamedTuple):
    """A way to learn from measured architectures what others are worth.

    Values are fitted as their `normal_scores`, so that it does not matter in which unit they are
    and whether a few of them are far off: what is predicted are places among those that were
    fitted, 0 for the middle.
    """

    fit: Callable[[np.ndarray, np.ndarray], Any]  # (features [N, F], values [N]) -> model
    predict: Callable[[Any, np.ndarray], Prediction]  # (model, features [M, F])


def normal_scores(values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Returns the quantile of the normal distribution at each value's rank among them, (rank - 1/2)
    / N; equal values have their mean rank.

    Raises:
      ValueError: for values that are not finite numbers [N].

    Example:
      >>> normal_scores([10.0, 90.0, 93.0]).round(3).tolist()
      [-0.967, 0.0, 0.967]
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.asarray(values, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"values are finite numbers [N], one an architecture; got an array {values.shape}"
            f" of which {np.count_nonzero(~np.isfinite(values))} are not finite"
        )
    return ndtri((rankdata(values) - 0.5) / max(len(values), 1))
