"""Intervals hold what they promise, a few values claim nothing, and every statistic equals scipy's
or what counting all cases gives. Vectors: facts-baselines.md 10.2 and 10.3."""

import itertools

import numpy as np
import pytest
from scipy import stats

from dnas.statistics import (
    bootstrap_interval,
    compare,
    deviations_needed,
    expected_best_of,
    kendall,
    mean_interval,
    precision_at,
    prediction_interval,
    probability_of_better,
    relative_improvement,
    reported,
    sample,
    spearman,
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


def test_values_are_reported_with_number_interval_and_what_was_varied():
    text = reported(VALUES, "seeds of the search", ".3f")
    interval = mean_interval(sample(VALUES)).shown(".3f")
    assert text == f"{sample(VALUES).shown('.3f')} [{interval}], n = 4 (seeds of the search)"
    assert reported([3.0], "architectures") == "3.00, n = 1 (architectures)"


OURS, BASELINE = [94.0, 93.8, 94.1, 93.9, 94.2], [93.7, 93.9, 93.6, 93.5, 93.8]


def test_pairs_are_compared_as_in_the_vectors():
    found = compare(OURS, BASELINE, paired=True)
    assert found.p == pytest.approx(0.125) and found.smallest_p == pytest.approx(0.0625)
    assert found.interval == pytest.approx((0.0088, 0.5912), abs=1e-4)
    assert found.effect == pytest.approx(0.92) and found.n == (5,)
    assert not found.can_tell() and "n = 5 cannot show a difference" in found.shown()
    expected = stats.ttest_rel(OURS, BASELINE).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_groups_are_compared_as_in_the_vectors():
    found = compare(OURS, BASELINE)
    assert found.p == pytest.approx(10 / 252) and found.smallest_p == pytest.approx(2 / 252)
    expected = stats.ttest_ind(OURS, BASELINE, equal_var=False).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.is_significant() and not found.is_significant(0.01)


def test_bootstrap_interval_is_scipys_and_that_of_the_vector():
    differences = np.subtract(OURS, BASELINE)
    found = bootstrap_interval(differences)
    assert found == pytest.approx((0.0, 0.42), abs=0.011)
    skewed, seed = np.random.default_rng(1).exponential(size=30), np.random.default_rng(3)
    expected = stats.bootstrap((skewed,), np.mean, method="BCa", random_state=seed)
    low, high = expected.confidence_interval
    assert bootstrap_interval(skewed, seed=3) == pytest.approx((low, high))
    assert bootstrap_interval(skewed, seed=4) == pytest.approx((low, high), abs=0.1)
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0) and bootstrap_interval([1.0]) is None
    with pytest.raises(ValueError, match="one length of at least 1, got"):
        bootstrap_interval([1.0, 2.0], [1.0])


def test_networks_are_drawn_with_their_scores():
    """A correlation of one has an interval without width, whatever is drawn, and that of noise
    holds zero."""
    values = np.random.default_rng(0).normal(size=40)
    found = bootstrap_interval(values, values, statistic=spearman, resamples=99)
    assert found == pytest.approx((1.0, 1.0))
    noise = np.random.default_rng(1).normal(size=40)
    low, high = bootstrap_interval(noise, values, statistic=kendall, resamples=199)
    assert low < 0 < high and low < kendall(noise, values) < high


def p_of_signs(hundredths):
    """By counting all signs, in whole numbers."""
    sums = [
        np.dot(signs, hundredths) for signs in itertools.product((1, -1), repeat=len(hundredths))
    ]
    return np.mean(np.abs(sums) >= abs(sum(hundredths)))


def p_of_groups(ours, baseline):
    """By counting all ways to draw as many of both together, in whole numbers."""
    both, size = [*ours, *baseline], len(ours)
    # n * m times the difference of the means.
    differences = [
        len(both) * sum(own) - size * sum(both) for own in itertools.combinations(both, size)
    ]
    above = np.mean(np.array(differences) >= differences[0])
    below = np.mean(np.array(differences) <= differences[0])
    return min(1.0, 2 * min(above, below))


@pytest.mark.parametrize("seed", range(8))
def test_p_is_what_counting_gives_also_where_many_assignments_tie(seed):
    """Accuracies in hundredths of a per cent, so that sums tie, and decimals round."""
    rng = np.random.default_rng(seed)
    ours, baseline = rng.integers(9370, 9400, (2, 7)) // 5 * 5
    pairs = compare(ours / 100, baseline / 100, paired=True)
    assert pairs.p == pytest.approx(p_of_signs(ours - baseline))
    groups = compare(ours[:4] / 100, baseline / 100)
    assert groups.p == pytest.approx(p_of_groups(ours[:4].tolist(), baseline.tolist()))
    assert groups.effect == pytest.approx(
        stats.mannwhitneyu(ours[:4], baseline).statistic / (4 * 7)
    )
    # A number that is known is a pair for each.
    known = compare(ours / 100, 93.85)
    assert known.p == pytest.approx(p_of_signs(ours - 9385)) and known.n == (7,)


@pytest.mark.parametrize("n", range(1, 9))
def test_no_values_whatever_reach_a_p_below_the_smallest(n):
    apart = np.arange(n) + 100.0
    pairs, groups = compare(apart, np.arange(n), paired=True), compare(apart, np.arange(n))
    assert pairs.p == pairs.smallest_p == 2.0 ** (1 - n)
    assert groups.p == pytest.approx(groups.smallest_p)
    assert pairs.can_tell() == (n >= 6) and groups.can_tell() == (n >= 4)
    for own in (pairs, groups):
        assert own.is_significant() == own.can_tell() == ("p = " in own.shown())
    if n == 3:
        assert "n = 3 cannot show a difference (smallest p 0.25)" in pairs.shown()


def test_of_many_values_assignments_are_drawn_and_come_near_the_t_test():
    rng = np.random.default_rng(0)
    ours, baseline = rng.normal(0.25, 1, 60), rng.normal(0, 1, 60)
    pairs, groups = compare(ours, baseline, paired=True), compare(ours, baseline)
    assert pairs.p == pytest.approx(stats.ttest_rel(ours, baseline).pvalue, abs=0.02)
    assert groups.p == pytest.approx(stats.ttest_ind(ours, baseline).pvalue, abs=0.02)
    assert pairs.p >= pairs.smallest_p > 0 and "20,000 draws" in pairs.shown()
    assert compare(ours, baseline) == groups  # the same draws again


def test_where_nothing_differs_nothing_is_claimed():
    for found in (compare([90.0] * 8, 90.0), compare([90.0] * 8, [90.0] * 8)):
        assert found.difference == 0 and found.p == 1 and found.effect == 0.5
        assert found.interval == (0.0, 0.0) and not found.is_significant()


def test_a_level_is_kept_where_there_is_no_difference():
    rng = np.random.default_rng(0)
    claims = [compare(*rng.normal(93, 1, (2, 6)), paired=True).is_significant() for _ in range(400)]
    assert np.mean(claims) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="got 2 of ours and 1 of the baseline"):
        compare([1.0, 2.0], [1.0], paired=True)
    with pytest.raises(ValueError, match="baseline is at least one value, and all are finite"):
        compare([1.0], [float("nan")])
    with pytest.raises(ValueError, match="ours is at least one value"):
        compare([], 1.0)


def test_rank_correlations_are_those_of_the_vectors():
    x, y = [1, 2, 2, 3], [1, 3, 2, 4]
    assert kendall(x, y) == pytest.approx(0.912870929) and spearman(x, y) == pytest.approx(
        0.9486833
    )
    scores, accuracies = [1, 3, 2, 5, 4], [93.11, 93.14, 93.26, 93.52, 93.48]
    assert kendall(scores, accuracies) == pytest.approx(0.8)
    assert kendall(scores, accuracies, bin=0.1) == pytest.approx(0.67082, abs=1e-5)


def test_the_top_of_a_ranking_is_that_of_the_values():
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(2, 40))
    best = np.argsort(values)[-10:]
    expected = stats.kendalltau(scores[best], values[best]).statistic
    assert kendall(scores, values, top=0.25) == pytest.approx(expected)
    expected = stats.spearmanr(scores[best], values[best]).statistic
    assert spearman(scores, values, top=0.25) == pytest.approx(expected)
    # 0.07 * 100 is a little more than 7 in binary.
    many = np.arange(100.0)
    assert kendall(many, many, top=0.07) == 1.0
    assert np.isnan(kendall([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    for wrong in ({"top": 0.0}, {"top": 1.5}, {"top": 0.01}, {"bin": 0.0}):
        with pytest.raises(ValueError, match="got"):
            kendall(scores, values, **wrong)
    with pytest.raises(ValueError, match="got 2 scores and 1 values"):
        spearman([1, 2], [1])


@pytest.mark.parametrize("k", range(1, 7))
def test_precision_is_the_mean_over_all_orders_of_equal_scores(k):
    scores, values = [3, 1, 2, 2, 2, 1], [5.0, 9.0, 8.0, 1.0, 7.0, 6.0]
    best = set(np.argsort(values)[-k:].tolist())
    found = [
        len(best & {*order[:k]}) / k
        for order in itertools.permutations(range(6))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    assert precision_at(k, scores, values) == pytest.approx(np.mean(found))


def test_precision_counts_equal_values_and_refuses_more_places_than_networks():
    assert precision_at(1, [2, 1], [90.0, 90.0]) == 1.0
    with pytest.raises(ValueError, match="from 1 to the 2 networks, got 3"):
        precision_at(3, [1, 2], [1, 2])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_expected_best_is_the_mean_over_all_draws(n):
    values = [3.0, 1.0, 1.0, 4.0]
    again = [max(own) for own in itertools.product(values, repeat=n)]
    once = [max(own) for own in itertools.combinations(values, n)]
    assert expected_best_of(values, n) == pytest.approx(np.mean(again))
    assert expected_best_of(values, n, replace=False) == pytest.approx(np.mean(once))


def test_expected_best_is_that_of_the_vectors_and_of_all_draws_the_best():
    values = [1, 2, 3, 4]
    found = [
        (expected_best_of(values, n), expected_best_of(values, n, replace=False)) for n in (2, 3)
    ]
    assert found == [pytest.approx((3.125, 3.33333), abs=1e-5), pytest.approx((3.4375, 3.75))]
    many = np.random.default_rng(0).normal(size=2000)
    assert expected_best_of(many, 2000, replace=False) == pytest.approx(many.max())
    for n, replace in ((0, True), (5, False)):
        with pytest.raises(ValueError, match="draw"):
            expected_best_of(values, n, replace=replace)


def test_better_than_all_of_the_others_is_a_probability_of_one():
    assert probability_of_better([2.0, 3.0], [1.0]) == 1.0
    assert probability_of_better([1.0], [2.0, 3.0]) == 0.0
    assert relative_improvement([99.0], [90.0]) == pytest.approx(10.0)
