"""How well scores order networks: rank correlations and precision."""

import warnings
from collections.abc import Iterable

import numpy as np


def kendall(
    scores: Iterable[float], values: Iterable[float], *, top: float = 1.0, bin: float | None = None
) -> float:
    """Returns Kendall's tau-b of scores and what they are to order, such as accuracies; nan where
    one is constant.

    Args:
      top: part of the networks, those of the highest values, that is looked at. Most scores know
        bad networks from good ones; which of the good ones is better, fewer know.
      bin: values are rounded to multiples of it first, so that differences below what a training
        can tell count as ties: the sparse tau of https://arxiv.org/abs/2003.04276.

    Raises:
      ValueError: for fewer than two networks, or not a score for each.

    Example:
      >>> scores, accuracies = [1, 3, 2, 5, 4], [93.11, 93.14, 93.26, 93.52, 93.48]
      >>> round(kendall(scores, accuracies), 4), round(kendall(scores, accuracies, bin=0.1), 4)
      (0.8, 0.6708)
    """
    from scipy import stats

    if bin is not None and not bin > 0:
        raise ValueError(f"bin is a width greater than 0, got {bin}")
    scores, values = _of_best(scores, values, top)
    return _quietly(stats.kendalltau, scores, values if bin is None else np.round(values / bin))


def spearman(scores: Iterable[float], values: Iterable[float], *, top: float = 1.0) -> float:
    """Returns Spearman's rank correlation, ties with their mean rank; arguments and errors as for
    `kendall`."""
    from scipy import stats

    return _quietly(stats.spearmanr, *_of_best(scores, values, top))


def precision_at(k: int, scores: Iterable[float], values: Iterable[float]) -> float:
    """Returns which part of the k networks of the highest scores are among the k of the highest
    values.

    Networks of equal scores share the places that are left for them; a value equal to the k-th is
    among the highest.

    Raises:
      ValueError: unless k is from 1 to the number of networks, each of which has a score.

    Example:
      >>> precision_at(2, scores=[3, 2, 2, 1], values=[90, 94, 80, 70])
      0.75
    """
    scores, values = _pairs(scores, values)
    if not 1 <= k <= len(scores):
        raise ValueError(f"k is a number from 1 to the {len(scores)} networks, got {k}")
    least = np.sort(scores)[-k]
    above, equal = scores > least, scores == least
    chosen = above + equal * (k - above.sum()) / equal.sum()
    return float(chosen[values >= np.sort(values)[-k]].sum() / k)


def _of_best(
    scores: Iterable[float], values: Iterable[float], top: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and values of this part of the networks, those of the highest values, the k-th of
    which may be there several times."""
    scores, values = _pairs(scores, values)
    number = int(np.ceil(top * len(values) - 1e-9)) if 0 < top <= 1 else 0
    if number < 2:
        raise ValueError(
            f"a rank correlation needs at least two networks, and top is a part from above 0 to 1;"
            f" got {len(values)} networks and top = {top}"
        )
    kept = values >= np.sort(values)[-number]
    return scores[kept], values[kept]


def _pairs(scores: Iterable[float], values: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
    pair = np.asarray([*scores], np.float64), np.asarray([*values], np.float64)
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"each network has a score and a value, got {pair[0].size} scores and {pair[1].size}"
            " values"
        )
    return pair


def _quietly(correlation, scores: np.ndarray, values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants, whose correlation is nan
        return float(correlation(scores, values).statistic)
