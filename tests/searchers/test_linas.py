"""LINAS: fronts of two objectives, from few evaluations."""

import numpy as np
import pytest

import dnas
from dnas.predictors import Prediction, Predictor
from dnas.searchers import Architectures, front, fronts, linas, random_search, run_searcher

SPACE = dnas.nasbench201_space(
    name="three ops", ops=("none", "skip_connect", "nor_conv_3x3"), num_nodes=3
)
RANDOM = np.random.default_rng(0)
GAINS, COSTS = RANDOM.uniform(0, 1, (6, 3)), RANDOM.uniform(0, 1, (6, 3))


def both(genotype):
    """What edges add up to, and what they cost: of each more is better."""
    rows = [int(SPACE.cells["cell"].ops.index(edge.op)) for edge in genotype.cells["cell"]]
    edges = [SPACE.cells["cell"].edges.index(edge[:2]) for edge in genotype.cells["cell"]]
    return float(GAINS[edges, rows].sum()), -float(COSTS[edges, rows].sum())


def area(history):
    """What a front covers, down to the worst values that there are."""
    worst = -float(COSTS.max(axis=1).sum())
    covered, before = 0.0, 0.0
    for value in [own.value for own in front(history)]:
        covered += (value[0] - before) * (value[1] - worst)
        before = value[0]
    return covered


def exact():
    """Knows the values; told apart by which objective it was fitted to."""

    def fit(features, values):
        gains = features @ GAINS.ravel()
        return GAINS if np.corrcoef(gains, values)[0, 1] > 0.999 else -COSTS

    def predict(model, features):
        return Prediction(features @ model.ravel(), np.zeros(len(features)))

    return Predictor(fit, predict)


def test_fronts_are_peeled_one_after_the_other():
    values = RANDOM.integers(0, 6, (40, 3)).astype(float)
    left, seen = set(range(40)), []
    for level in fronts(values):
        expected = []
        for number in sorted(left):
            own, others = values[number], values[sorted(left)]
            if not any((other >= own).all() and (other > own).any() for other in others):
                expected.append(number)
        assert level.tolist() == expected
        left -= set(expected)
        seen += expected
    assert sorted(seen) == list(range(40))


def test_with_exact_predictors_the_second_round_has_the_front_of_the_space():
    cells = Architectures(SPACE)
    every = [both(cells.genotype_of(picks)) for picks in cells.all()]
    (best, *_) = fronts(np.array(every))
    history = run_searcher(SPACE, linas(exact(), population=40, generations=12), both, budget=80)
    found = {own.value for own in history}
    assert len({own.genotype for own in history}) == 80
    assert sum(every[number] in found for number in best) > 0.7 * len(best)


def test_a_front_is_found_that_random_draws_do_not_reach():
    searcher = linas(population=15, generations=8)
    for seed in range(2):
        found = run_searcher(SPACE, searcher, both, budget=45, seed=seed)
        drawn = run_searcher(SPACE, random_search(), both, budget=45, seed=seed)
        assert area(found) > area(drawn)


def test_options_are_counts():
    for wrong in (dict(population=1), dict(generations=0)):
        with pytest.raises(ValueError, match="population is at least 2"):
            linas(exact(), **wrong)
