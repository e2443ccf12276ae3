"""Intervals hold what they promise, and a few values claim nothing."""

import numpy as np
import pytest
from scipy import stats

from dnas.statistics import (
    deviations_needed,
    mean_interval,
    prediction_interval,
    sample,
)

VALUES = [98.61, 98.89, 100.0, 97.5]


def test_a_sample_has_the_deviation_of_a_sample():
    found = sample(VALUES)
    assert found == (4, pytest.approx(np.mean(VALUES)), pytest.approx(np.std(VALUES, ddof=1)))
    assert sample(iter(VALUES)) == found


def test_one_value_has_no_deviation_and_no_interval():
    found = sample([3.0])
    assert found == (1, 3.0, None) and found.shown() == "3.00"
    assert mean_interval(found) is None and prediction_interval(found) is None


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="no values; give at least one"):
        sample([])


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_of_a_mean_is_scipys(confidence):
    expected = stats.ttest_1samp(VALUES, 0.0).confidence_interval(confidence)
    found = mean_interval(sample(VALUES), confidence)
    assert found == (pytest.approx(expected.low), pytest.approx(expected.high))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_one_more_value_lies_outside_of_its_interval_as_often_as_is_said(n):
    """Within four standard errors of 5 % of 20,000 draws."""
    draws = np.random.default_rng(n).normal(3.0, 2.0, (20_000, n + 1))
    mean, deviation = draws[:, :n].mean(1), draws[:, :n].std(1, ddof=1)
    outside = np.abs(draws[:, n] - mean) > deviations_needed(n) * deviation
    assert abs(outside.mean() - 0.05) < 4 * (0.05 * 0.95 / 20_000) ** 0.5
    low, high = prediction_interval(sample(draws[0, :n]))
    assert (high - low) / 2 == pytest.approx(deviations_needed(n) * deviation[0])


def test_of_many_values_chance_reaches_as_far_as_in_a_normal_distribution():
    assert deviations_needed(10**6) == pytest.approx(stats.norm.ppf(0.975), abs=1e-4)
