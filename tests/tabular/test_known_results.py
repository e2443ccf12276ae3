"""The table of NAS-Bench-201 as published: what https://arxiv.org/abs/2001.00326 and its users say
of it is in it."""

import numpy as np
import pytest
from tables import PUBLISHED, all_ops, cell, needs_published, space

from dnas import Genotype
from dnas.tabular import canonical_form, is_connected, load_benchmark, standings

pytestmark = needs_published
VALID, TEST = "cifar10_valid_12ep", "cifar10_test_200ep"


@pytest.fixture(scope="module")
def table():
    return load_benchmark(PUBLISHED, space=space())


def test_every_string_of_the_space_is_there_and_round_trips(table):
    assert len(table) == 15625
    texts = [genotype.to_text() for genotype in table.genotypes]
    assert set(texts) == {cell(" ".join(ops)) for ops in all_ops()}
    assert [Genotype.from_text(text) for text in texts[::10]] == list(table.genotypes[::10])


def test_those_at_chance_are_the_disconnected_ones(table):
    disconnected = np.array([not is_connected(genotype) for genotype in table.genotypes])
    assert disconnected.sum() == 341
    np.testing.assert_array_equal(table.metrics[TEST] < 11, disconnected)


@pytest.mark.parametrize(
    ("ops", "row", "valid", "test"),
    [
        ("none none none none none none", 1651, 9.71, 10.00),
        ("skip skip skip skip skip skip", 1835, 33.94, 54.30),
        ("avg avg avg avg avg avg", 7581, 27.14, 49.02),
        ("1x1 1x1 1x1 1x1 1x1 1x1", 4317, 66.51, 89.37),
        ("3x3 3x3 3x3 3x3 3x3 3x3", 1462, 69.08, 93.76),
        ("3x3 none 3x3 skip none skip", 11472, 83.74, 93.97),
        ("3x3 3x3 3x3 skip 3x3 1x1", 6111, 84.38, 94.37),
        ("3x3 3x3 3x3 skip 3x3 3x3", 9930, 84.75, 94.36),
        ("1x1 1x1 3x3 skip 3x3 3x3", 857, 83.62, 93.99),
        ("3x3 3x3 avg skip 3x3 skip", 1, 82.83, 93.66),
        ("3x3 1x1 3x3 skip 3x3 3x3", 2581, 84.68, 94.22),
    ],
)
def test_known_architectures_have_their_row_and_accuracies(table, ops, row, valid, test):
    assert table.index(cell(ops)) == row
    found = table.query(cell(ops))
    assert (found[VALID], found[TEST]) == pytest.approx((valid, test), abs=0.0051)


def test_the_best_is_the_published_optimum(table):
    best = table.best(TEST)
    assert best.to_text() == cell("3x3 3x3 3x3 skip 3x3 1x1")
    assert table.query(best)[TEST] == pytest.approx(94.37, abs=0.005)
    assert (
        table.rank(best, TEST) == 1
        and table.regret(best, TEST) == 0
        and table.quantile(best, TEST) == 1
    )


@pytest.mark.parametrize(
    ("quantile", "value"),
    [(0.05, 73.50), (0.25, 87.57), (0.5, 90.71), (0.75, 92.18), (0.95, 93.28)],
)
def test_the_distribution_is_the_published_one(table, quantile, value):
    assert np.quantile(table.metrics[TEST], quantile) == pytest.approx(value, abs=0.0051)
    row = table.genotypes[int(np.argmin(np.abs(table.metrics[TEST] - value)))]
    assert table.quantile(row, TEST) == pytest.approx(quantile, abs=0.01)


def test_mean_and_spread_are_the_published_ones(table):
    values = table.metrics[TEST]
    assert (values.mean(), values.std()) == pytest.approx((87.04, 12.94), abs=0.0051)


@pytest.mark.parametrize(("num_draws", "value"), [(1, 87.04), (10, 93.09), (100, 93.85)])
def test_expected_best_of_random_draws(table, num_draws, value):
    assert table.expected_best_of(num_draws, TEST) == pytest.approx(value, abs=0.0051)


def test_twelve_epochs_rank_as_published(table):
    assert table.spearman(VALID, TEST) == pytest.approx(0.771, abs=0.0006)


@pytest.mark.parametrize(("row", "value"), [(3928, 93.61), (138, 93.67), (6168, 92.36)])
def test_what_gdas_ended_with_in_the_published_runs(table, row, value):
    standing = next(
        found for found in standings(table, table.genotypes[row]) if found.metric == TEST
    )
    assert standing.value == pytest.approx(value, abs=0.0051)
    assert standing.regret == pytest.approx(94.37 - value, abs=0.011)


def test_what_gdas_ended_with_on_imagenet16_is_one_convolution(table):
    assert table.index(cell("none none none 3x3 none none")) == 6960


def test_darts_ends_below_the_random_cell(table):
    standing = next(found for found in standings(table, cell("skip " * 6)) if found.metric == TEST)
    assert (
        standing.value == pytest.approx(54.30, abs=0.005)
        and standing.value < standing.expected_best[1]
    )
    assert standing.quantile < 0.05


def test_cells_of_one_canonical_form_were_trained_to_nearly_the_same_accuracy(table):
    """What is left within a form is the noise of training: 0.25 points, where all of them spread
    over 14.6."""
    values, seen = table.metrics[TEST], {}
    for row, genotype in enumerate(table.genotypes):
        seen.setdefault(canonical_form(genotype), []).append(row)
    groups = [rows for rows in seen.values() if len(rows) > 1]
    within = np.concatenate([values[rows] - values[rows].mean() for rows in groups])
    assert len(seen) == 5260 and len(within) == 11553
    assert within.std() < 0.3 and values[np.concatenate(groups)].std() > 14
