"""Mean, deviation and intervals of some values, and the one form in which dnas says them.

Everywhere in dnas "a +- b" is a mean and a deviation: the deviation of a sample of n values, whose
squares are summed and divided by n - 1. It says how far one value lies from the mean, and not how
well the mean is known; that is what `mean_interval` says.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np


class Sample(NamedTuple):
    """What is kept of n values."""

    n: int
    mean: float
    deviation: float | None  # None of a single value

    def shown(self, form: str = ".2f") -> str:
        """Returns "mean +- deviation", each in this form; of a single value the value alone.

        Example:
          >>> sample([0.98, 0.99, 1.0]).shown(".1%"), sample([0.98]).shown(".1%")
          ('99.0% +- 1.0%', '98.0%')
        """
        if self.deviation is None:
            return f"{self.mean:{form}}"
        return f"{self.mean:{form}} +- {self.deviation:{form}}"


class Interval(NamedTuple):
    """Numbers from `low` to `high`."""

    low: float
    high: float

    def shown(self, form: str = ".2f") -> str:
        """Returns "low to high", each in this form."""
        return f"{self.low:{form}} to {self.high:{form}}"


def sample(values: Iterable[float]) -> Sample:
    """Returns number, mean and deviation of values.

    Raises:
      ValueError: if there are none.

    Example:
      >>> sample([1.0, 2.0, 3.0])
      Sample(n=3, mean=2.0, deviation=1.0)
    """
    numbers = np.asarray([*values], np.float64)
    if not numbers.size:
        raise ValueError("there is no mean of no values; give at least one")
    deviation = float(numbers.std(ddof=1)) if numbers.size > 1 else None
    return Sample(numbers.size, float(numbers.mean()), deviation)


# What `reported` says, for the foot of a table.
REPORTED = (
    "mean +- deviation of one value (squares divided by n - 1) [95 % interval of the mean,"
    " Student's t], n = number of values (what differed between them)"
)


def reported(values: Iterable[float], varied: str, form: str = ".2f") -> str:
    """Returns what every report and study of dnas says of some values: mean, deviation, interval
    and number, and what was varied, as `REPORTED` explains. One value is said alone.

    Args:
      varied: what differed between the values: "seeds of the search", "seeds of the training",
        "architectures".

    Raises:
      ValueError: if there are none.

    Example:
      >>> reported([93.76, 93.38, 93.76, 93.76], "seeds of the search")
      '93.66 +- 0.19 [93.36 to 93.97], n = 4 (seeds of the search)'
    """
    found = sample(values)
    interval = mean_interval(found)
    between = "" if interval is None else f" [{interval.shown(form)}]"
    return f"{found.shown(form)}{between}, n = {found.n:,} ({varied})"


def mean_interval(found: Sample, confidence: float = 0.95) -> Interval | None:
    """Returns where the mean of all values lies with this probability, if they are normal:
    Student's t interval. None of a single value, which says nothing of it.

    Example:
      >>> mean_interval(sample([1.0, 2.0, 3.0])).shown()
      '-0.48 to 4.48'
    """
    return _around(found, 1 / found.n, confidence)


def bootstrap_interval(
    *values: Iterable[float],
    statistic: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
    resamples: int = 9999,
    method: Literal["BCa", "percentile"] = "BCa",
    seed: int = 0,
) -> Interval | None:
    """Returns where a statistic of all values lies with this probability, whatever their
    distribution: the bias-corrected and accelerated bootstrap (BCa), https://doi.org/10.2307/2289144.

    Several rows of values are drawn together: of scores and accuracies networks are drawn, which
    is the interval of a rank correlation. Of fewer than some ten values it is too narrow, and
    `mean_interval` is not.

    Args:
      values: one or several rows, of one length.
      statistic: of as many arrays as there are rows, a number.
      resamples: how many samples are drawn.
      method: "percentile" leaves out the corrections, which take as many statistics as there are
        values and change little where these are many.
      seed: of the draws.

    Returns:
      None of a single value. Where the correction is not defined, as for values that are all
      equal, the percentiles.

    Raises:
      ValueError: for rows of different lengths, or none.

    Example:
      >>> bootstrap_interval([0.3, -0.1, 0.5, 0.4, 0.4]).shown()
      '0.00 to 0.42'
    """
    from scipy import stats

    rows = [np.asarray([*row], np.float64) for row in values]
    sizes = {row.size for row in rows}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"rows of values have one length of at least 1, got {[row.size for row in rows]}"
        )
    if sizes == {1}:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are all equal
        found: Any = stats.bootstrap(  # scipy carries no types
            rows,
            statistic,
            n_resamples=resamples,
            paired=True,
            confidence_level=confidence,
            method=method,
            **same_draws(seed),
        )
        low, high = found.confidence_interval
        if not (math.isfinite(low) and math.isfinite(high)):
            rest = (1 - confidence) / 2
            low, high = np.nanquantile(found.bootstrap_distribution, (rest, 1 - rest))
    return Interval(float(low), float(high))


def same_draws(seed: int) -> dict[str, Any]:
    """Returns the keyword that makes what scipy draws a function of a seed; since scipy 1.15 it has
    another name, which the oldest that is allowed does not know."""
    return {"random_state": np.random.default_rng(seed)}


def prediction_interval(found: Sample, confidence: float = 0.95) -> Interval | None:
    """Returns where one more value lies with this probability, if all are normal: so a value from
    elsewhere that lies outside of it differs from these by more than chance. None of a single
    value.

    Of three values it reaches 4.97 deviations to either side, of ten 2.37, see
    `deviations_needed`.

    Example:
      >>> prediction_interval(sample([1.0, 2.0, 3.0])).shown()
      '-2.97 to 6.97'
    """
    return _around(found, 1 + 1 / found.n, confidence)


def deviations_needed(n: int, confidence: float = 0.95) -> float:
    """Returns by how many deviations of n values, at least two, one more may differ from their mean
    by chance: t_{n-1} * sqrt(1 + 1/n).

    Example:
      >>> [round(deviations_needed(n), 2) for n in (2, 3, 5, 10)]
      [15.56, 4.97, 3.04, 2.37]
    """
    return _quantile(n, confidence) * math.sqrt(1 + 1 / n)


def _around(found: Sample, variance: float, confidence: float) -> Interval | None:
    """The interval around the mean of what has so many times the variance of a value."""
    if found.deviation is None:
        return None
    reach = _quantile(found.n, confidence) * math.sqrt(variance) * found.deviation
    return Interval(found.mean - reach, found.mean + reach)


def _quantile(n: int, confidence: float) -> float:
    """Of Student's t with n - 1 degrees of freedom, beyond which lies half of what is left."""
    from scipy import stats  # takes longer than all else that dnas imports, and few need it

    return float(stats.t.ppf((1 + confidence) / 2, n - 1))
