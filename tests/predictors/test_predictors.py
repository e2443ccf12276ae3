"""Predictors: what they read, the formulas that they are, and the published correlations on
NAS-Bench-201."""

import pathlib
import sys

import jax
import numpy as np
import pytest
from scipy.stats import kendalltau, kstest, spearmanr

import dnas
from dnas.predictors import (
    PREDICTORS,
    forest,
    gaussian_process,
    normal_scores,
    one_hot,
    pairs,
    ridge,
)

SPACE = dnas.SPACES["nasbench201"]
RANDOM = np.random.default_rng(0)
CELLS = np.eye(5)[RANDOM.integers(0, 5, (160, 6))].reshape(160, 30)  # one-hot features
WORTH = CELLS @ RANDOM.standard_normal(30)
TABLE = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nasbench201.csv.gz"


@pytest.mark.parametrize("name", ["nasbench201", "darts", "s1", "fbnet", "recurrent"])
def test_features_are_the_one_hot_mix_in_the_order_of_the_space(name):
    space = dnas.SPACES[name]
    genotypes = [dnas.random_genotype(jax.random.key(seed), space) for seed in range(3)]
    features = one_hot(space, genotypes)
    for own, genotype in zip(features, genotypes, strict=True):
        mix = dnas.one_hot_mix(space, genotype)
        expected = np.concatenate([np.ravel(mix[kind]) for kind in space.choices])
        np.testing.assert_array_equal(own, expected)
        turned = {kind: edges[::-1] for kind, edges in genotype.cells.items()}
        other = dnas.Genotype(name, turned, genotype.concat, genotype.picks)
        np.testing.assert_array_equal(one_hot(space, [other])[0], own)


def test_pairs_are_all_products_of_two_features():
    features = RANDOM.standard_normal((3, 4))
    products = [features[:, a] * features[:, b] for a in range(4) for b in range(a + 1, 4)]
    np.testing.assert_array_equal(pairs(features), np.c_[features, np.transpose(products)])


def test_normal_scores_are_quantiles_of_ranks():
    values = np.random.default_rng(1).exponential(size=5001)
    scores = normal_scores(values)
    np.testing.assert_allclose(scores[np.argsort(values)][2500], 0, atol=1e-12)
    assert abs(scores.mean()) < 1e-9 and scores.std() == pytest.approx(1, abs=2e-3)
    assert kstest(scores, "norm").statistic < 1e-3
    tied = normal_scores([1.0, 2.0, 2.0, 3.0])
    assert tied[1] == tied[2] == 0 and tied[0] == -tied[3]


@pytest.mark.parametrize("name", PREDICTORS)
def test_what_adds_up_is_learned_and_far_off_values_do_not_matter(name):
    fit, predict = PREDICTORS[name]()
    model = fit(CELLS[:120], WORTH[:120])
    found = predict(model, CELLS[120:])
    assert found.mean.shape == found.spread.shape == (40,) and (found.spread > 0).all()
    rank = spearmanr(found.mean, WORTH[120:]).statistic
    assert rank > (0.7 if name == "forest" else 0.95)
    # In any unit, and of any shape that keeps the order.
    again = predict(fit(CELLS[:120], np.exp(3 * WORTH[:120])), CELLS[120:])
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-6, atol=1e-9)
    # What was seen is known better than what was not.
    assert predict(model, CELLS[:120]).spread.mean() < found.spread.mean()


def test_ridge_is_the_closed_form_for_its_penalty():
    fit, predict = ridge()
    model = fit(CELLS[:60], WORTH[:60])
    centre, scores = CELLS[:60].mean(axis=0), normal_scores(WORTH[:60])
    inputs, penalty = CELLS[:60] - centre, model[-1].lambda_ / model[-1].alpha_
    covariance = np.linalg.inv(inputs.T @ inputs + penalty * np.eye(30))
    weights = covariance @ inputs.T @ (scores - scores.mean())
    found = predict(model, CELLS[60:])
    np.testing.assert_allclose(found.mean, scores.mean() + (CELLS[60:] - centre) @ weights)
    rest = CELLS[60:] - centre
    variance = (1 + np.einsum("nf,fg,ng->n", rest, covariance, rest)) / model[-1].alpha_
    np.testing.assert_allclose(found.spread, np.sqrt(variance))


def test_pairs_let_ridge_learn_which_options_go_together():
    together = CELLS[:, 0] * CELLS[:, 7] + CELLS[:, 3] * CELLS[:, 29] - CELLS[:, 12] * CELLS[:, 20]
    worth = together + 1e-3 * WORTH  # no ties
    fit, predict = ridge()
    errors = []
    for features in (CELLS, pairs(CELLS)):
        mean, _ = predict(fit(features[:120], worth[:120]), features[120:])
        errors.append(np.mean((mean - normal_scores(worth)[120:]) ** 2))
    assert errors[1] < errors[0]


def test_the_covariance_of_the_gaussian_process_counts_rows_that_differ():
    fit, predict = gaussian_process()
    model = fit(CELLS[:60], WORTH[:60])
    size, length = model.kernel_.k1.k1.constant_value, model.kernel_.k1.k2.length_scale
    noise = model.kernel_.k2.noise_level
    rows = CELLS.reshape(-1, 6, 5).argmax(-1)
    differing = (rows[:, None] != rows).sum(-1)
    covariance = size * np.exp(-differing / length**2)
    known = covariance[:60, :60] + (noise + 1e-10) * np.eye(60)
    across = covariance[60:, :60]
    found = predict(model, CELLS[60:])
    expected = across @ np.linalg.solve(known, normal_scores(WORTH[:60]))
    np.testing.assert_allclose(found.mean, expected, rtol=1e-5, atol=1e-6)
    left = size + noise - np.einsum("mn,nm->m", across, np.linalg.solve(known, across.T))
    np.testing.assert_allclose(found.spread, np.sqrt(left), rtol=1e-5)


def test_a_forest_is_the_mean_of_its_trees_and_the_same_for_a_seed():
    fit, predict = forest(20, seed=3)
    model = fit(CELLS[:60], WORTH[:60])
    found = predict(model, CELLS[60:])
    np.testing.assert_allclose(found.mean, model.predict(CELLS[60:]))
    np.testing.assert_array_equal(found, predict(fit(CELLS[:60], WORTH[:60]), CELLS[60:]))


@pytest.mark.parametrize("name", PREDICTORS)
def test_what_cannot_be_fitted_is_refused(name):
    fit, _ = PREDICTORS[name]()
    for features, values, message in (
        (CELLS[:5], WORTH[:4], r"got \(5, 30\) and \(4,\)"),
        (CELLS[0], WORTH[:1], r"at least 2 architectures; got \(30,\)"),
        (CELLS[:2], [1.0, np.nan], "1 are not finite"),
        (CELLS[:2], WORTH[:2, None], "finite numbers .N., one an architecture"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(features, values)
    with pytest.raises(ValueError, match="trees is a number of at least 2, got 1"):
        forest(1)


@pytest.mark.parametrize("name", PREDICTORS)
def test_without_scikit_learn_the_extra_is_named(name, monkeypatch):
    for module in [own for own in sys.modules if own.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dnas\[predictors\]'"):
        PREDICTORS[name]()


@pytest.fixture(scope="module")
def table():
    if not TABLE.exists():
        pytest.skip(f"{TABLE} is not there")
    benchmark = dnas.tabular.load_benchmark(TABLE, space=SPACE)
    return one_hot(SPACE, benchmark.genotypes), benchmark.metrics


def draws(number, predictor, features, fitted, seen):
    """Of ten draws of rows, the values seen and predicted of the others."""
    fit, predict = predictor
    for seed in range(10):
        rows = np.random.default_rng(seed).permutation(len(features))
        known, rest = rows[:number], rows[number:]
        mean, _ = predict(fit(features[known], np.asarray(fitted)[known]), features[rest])
        yield np.asarray(seen)[rest], mean


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forest", "gaussian_process"])
def test_200_networks_rank_the_others(table, name):
    """facts-baselines.md 9, from an implementation of its own."""
    features, metrics = table
    seen = metrics["cifar10_valid_12ep"]
    found = draws(200, PREDICTORS[name](), features, seen, seen)
    assert np.mean([kendalltau(own, mean).statistic for own, mean in found]) >= 0.50


@pytest.mark.slow
def test_ridge_on_pairs_of_400_networks_ranks_the_others_after_training(table):
    features, metrics = table
    fitted, seen = metrics["cifar10_valid_12ep"], metrics["cifar10_test_200ep"]
    found = draws(400, ridge(), pairs(features), fitted, seen)
    mean = np.mean([spearmanr(own, mean).statistic for own, mean in found])
    assert mean == pytest.approx(0.737, abs=0.02)
