"""The best of all combinations of options is found without going through them."""

import itertools

import numpy as np
import pytest

from dnas.hw_loss import elimination
from dnas.hw_loss.elimination import Factor, best_columns, good_columns


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("combine", [np.add, np.maximum])
def test_elimination_finds_the_best_of_all_combinations(combine, largest):
    random = np.random.default_rng(0)
    names = [("x", number) for number in range(5)]
    allowed = {name: random.random(3) < 0.8 for name in names}
    for own in allowed.values():
        own[random.integers(3)] = True
    for _ in range(20):
        factors = []
        for size in (1, 2, 2, 3):
            rows = tuple(names[row] for row in random.permutation(5)[:size])
            factors.append(Factor(rows, random.normal(size=(3,) * size)))

        def value(columns, factors=factors):
            return combine.reduce([0.0, *(factor.at(columns) for factor in factors)])

        found = value(best_columns(factors, allowed, largest=largest, combine=combine))
        every = itertools.product(*(np.flatnonzero(allowed[name]) for name in names))
        values = [value(dict(zip(names, columns, strict=True))) for columns in every]
        assert found == pytest.approx(max(values) if largest else min(values), abs=1e-12)
        good = good_columns(factors, allowed, largest=largest, combine=combine)
        assert all(allowed[name][column] for name, column in good.items())
        assert min(values) - 1e-12 <= value(good) <= max(values) + 1e-12


def test_a_long_chain_takes_tables_of_two_rows_only(monkeypatch):
    """40 rows of 5 options, 10^28 combinations: each row shares a factor with the next."""
    random = np.random.default_rng(1)
    names = [("x", number) for number in range(40)]
    allowed = {name: np.ones(5, bool) for name in names}
    factors = [Factor(pair, random.normal(size=(5, 5))) for pair in itertools.pairwise(names)]
    monkeypatch.setattr(elimination, "_MOST_ENTRIES", 125)
    columns = best_columns(factors, allowed, largest=False)
    ends = factors[0].costs.min(axis=0)  # the best of the paths so far, by where they end
    for factor in factors[1:]:
        ends = (ends[:, None] + factor.costs).min(axis=0)
    assert sum(factor.at(columns) for factor in factors) == pytest.approx(ends.min(), abs=1e-9)


def test_tables_that_would_be_too_large_are_not_made(monkeypatch):
    monkeypatch.setattr(elimination, "_MOST_ENTRIES", 3)
    pair = Factor((("a", 0), ("b", 0)), np.zeros((2, 2)))
    both = np.ones(2, bool)
    assert best_columns([pair], {("a", 0): both, ("b", 0): both}, largest=False) is None
