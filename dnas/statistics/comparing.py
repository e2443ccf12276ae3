"""Whether one method differs from another by more than chance.

Which test is taken follows from the shape of the data alone and is known before any result is: on
one data set the p of several tests went from .017 to .125.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dnas.statistics.samples import Interval, mean_interval, same_draws, sample

LEVEL = 0.05  # of significance, unless told otherwise
# As many assignments of signs or groups are all tried, which makes a p exact: up to 14 pairs, or 8
# values beside 8. Of more, as many are drawn, always the same.
_ASSIGNMENTS = 20_000


class Comparison(NamedTuple):
    """How far ours lies above the baseline, and what that many values can show of it.

    A p below `smallest_p` is never reported, whatever the values are: three pairs can never show a
    difference at a level of 5 %, since one of four assignments of signs is as extreme as any.
    """

    difference: float  # of the means, ours less baseline
    interval: Interval | None  # of the difference, Student's or Welch's; None of a single value
    p: float  # two-sided
    smallest_p: float  # that so many values can reach
    effect: float  # A12, see `probability_of_better`
    n: tuple[int, ...]  # number of ours, and where they are not pairs of the baseline
    test: str  # which was made, in words

    def can_tell(self, level: float = LEVEL) -> bool:
        """Returns whether so many values can show a difference at all."""
        return self.smallest_p <= level

    def is_significant(self, level: float = LEVEL) -> bool:
        """Returns whether the difference is more than chance, at this level."""
        return self.can_tell(level) and self.p <= level

    def shown(self, form: str = "+.2f", level: float = LEVEL) -> str:
        """Returns difference, interval, p and effect, or instead of p that n cannot show any.

        Example:
          >>> compare([94.0, 93.8, 94.1], 93.5).shown()
          '+0.47 [+0.09 to +0.85], n = 3 cannot show a difference (smallest p 0.25)'
        """
        text = f"{self.difference:{form}}"
        if self.interval is not None:
            text += f" [{self.interval.shown(form)}]"
        number = " and ".join(map(str, self.n))
        text += f", n = {number}"
        if not self.can_tell(level):
            return f"{text} cannot show a difference (smallest p {self.smallest_p:.2g})"
        return f"{text}, p = {self.p:.2g} ({self.test}), A12 {self.effect:.2f}"


def compare(
    ours: Iterable[float], baseline: Iterable[float] | float, *, paired: bool = False
) -> Comparison:
    """Returns how ours differs from a baseline.

    The shape of the data decides the test: pairs, or a baseline without chance, a permutation of
    the signs of the differences with Student's interval; two groups a permutation of who belongs
    to which with Welch's interval. Both are exact up to 14 pairs or 8 values in each group, and by
    20,000 draws beyond.

    Args:
      ours: values of which more is better.
      baseline: the values of another method, or one number that is known without error, such as
        the accuracy that a table has for one network.
      paired: whether value i of both has something in common, such as a seed or a data split.

    Raises:
      ValueError: for no values, values that are no finite numbers, or pairs that are not complete.

    Example:
      >>> ours, baseline = [94.0, 93.8, 94.1, 93.9, 94.2], [93.7, 93.9, 93.6, 93.5, 93.8]
      >>> compare(ours, baseline).shown()
      '+0.30 [+0.07 to +0.53], n = 5 and 5, p = 0.04 (permutation of two groups, exact), A12 0.92'
    """
    known = not isinstance(baseline, Iterable)
    own, other = _finite("ours", ours), _finite("baseline", [baseline] if known else baseline)
    if known:
        return _of_differences(own - other, probability_of_better(own, other))
    if not paired:
        return _of_groups(own, other)
    if own.size != other.size:
        raise ValueError(
            f"pairs have a value of each, got {own.size} of ours and {other.size} of the baseline;"
            " give what belongs together, or paired=False"
        )
    return _of_differences(own - other, probability_of_better(own, other))


def _of_differences(differences: np.ndarray, effect: float) -> Comparison:
    found, assignments = sample(differences), 2**differences.size
    p = _permutation((differences,), "samples", lambda own, axis: own.mean(axis))
    test = f"permutation of signs, {_manner(assignments)}"
    return Comparison(
        difference=found.mean,
        interval=mean_interval(found),
        p=p,
        smallest_p=_smallest(assignments),
        effect=effect,
        n=(found.n,),
        test=test,
    )


def _of_groups(own: np.ndarray, other: np.ndarray) -> Comparison:
    from scipy import stats

    difference, interval = float(own.mean() - other.mean()), None
    assignments = math.comb(own.size + other.size, own.size)
    if min(own.size, other.size) < 2:  # one value says nothing of what chance does
        assignments = 1
    elif own.std() + other.std() == 0:
        interval = Interval(difference, difference)
    else:
        found = stats.ttest_ind(own, other, equal_var=False).confidence_interval()
        interval = Interval(float(found.low), float(found.high))

    p = _permutation((own, other), "independent", lambda a, b, axis: a.mean(axis) - b.mean(axis))
    return Comparison(
        difference=difference,
        interval=interval,
        p=p,
        smallest_p=_smallest(assignments),
        effect=probability_of_better(own, other),
        n=(own.size, other.size),
        test=f"permutation of two groups, {_manner(assignments)}",
    )


def _permutation(groups: tuple[np.ndarray, ...], kind: str, statistic) -> float:
    """The two-sided p of scipy's test."""
    from scipy import stats

    if min(own.size for own in groups) < 2:
        return 1.0
    everything = np.concatenate(groups)
    middle = everything.mean() if kind == "independent" else 0.0
    largest = np.abs(everything - middle).max()
    if largest == 0:
        return 1.0

    def rounded(*own, axis):
        # Sums that are equal on paper are equal here, whatever the last bits of decimals do.
        return np.round(statistic(*own, axis=axis), 9)

    found = stats.permutation_test(
        tuple((own - middle) / largest for own in groups),
        rounded,
        permutation_type=kind,
        vectorized=True,
        n_resamples=_ASSIGNMENTS,
        batch=max(1, 10**7 // everything.size),
        **same_draws(0),
    )
    return float(found.pvalue)


def _smallest(assignments: int) -> float:
    """The least two-sided p: the outermost of all assignments, or of all that are drawn."""
    if assignments <= _ASSIGNMENTS:
        return min(1.0, 2 / assignments)
    return 2 / (_ASSIGNMENTS + 1)


def _manner(assignments: int) -> str:
    return "exact" if assignments <= _ASSIGNMENTS else f"{_ASSIGNMENTS:,} draws"


def _finite(name: str, values: Iterable[float]) -> np.ndarray:
    numbers = np.asarray([*values], np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(
            f"{name} is at least one value, and all are finite numbers; got {numbers.tolist()}"
        )
    return numbers


def probability_of_better(ours: Iterable[float], baseline: Iterable[float]) -> float:
    """Returns A12: the probability that one of ours is above one of the baseline, equal ones
    counted half.

    Vargha and Delaney, https://doi.org/10.3102/10769986025002101, eq. 14: 0.5 where neither is
    better, 0.56, 0.64 and 0.71 for what they call a small, medium and large effect.

    Example:
      >>> probability_of_better([94.0, 93.8], [93.8, 93.5])
      0.875
    """
    own, other = _finite("ours", ours), _finite("baseline", baseline)
    return float(np.sign(own[:, None] - other).mean() / 2 + 0.5)


def relative_improvement(ours: Iterable[float], random: Iterable[float]) -> float:
    """Returns by how many per cent the mean accuracy of a method is above that of random networks
    of the same space, trained alike: RI, section 3 of https://arxiv.org/abs/1912.12522.

    Example:
      >>> round(relative_improvement([97.4, 97.2], [96.6, 97.0]), 3)
      0.517
    """
    of_random = sample(_finite("random", random)).mean
    return 100 * (sample(_finite("ours", ours)).mean - of_random) / of_random
