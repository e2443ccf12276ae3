"""Fitted cost models: exact at discrete cells, exact expectations, and calibrated to what a runtime
does."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured_cells import CELL, all_mixes, connected, probabilities
from scipy.stats import kendalltau

from dnas.graph import CellSpec
from dnas.hw_loss import CostModel, fit_cost
from dnas.hw_loss.graphs import all_cells, graph_text
from dnas.hw_loss.structure import structure

MIXES = all_mixes(CELL)
OPS = np.array([0, 0.1, 2.0, 0.4])
ROWS = np.random.default_rng(0).permutation(len(MIXES))
FITTED, REST = ROWS[:200], ROWS[200:1500]


@pytest.fixture(scope="module")
def found():
    return [connected(CELL, mix) for mix in MIXES]


@pytest.fixture(scope="module")
def runtimes(found):
    """What the cells cost in three runtimes, without noise."""
    live = np.array([cell.live.sum(0) @ OPS for cell in found])
    unfed = np.array([cell.unfed.sum(0) @ OPS for cell in found])
    # Of the longest path, where branches run at the same time.
    finish = np.full((len(MIXES), 4), -np.inf)
    finish[:, 0] = 0
    for number, (source, target) in enumerate(CELL.edges):
        took = np.where(MIXES[:, number].any(-1), MIXES[:, number] @ OPS, -np.inf)
        finish[:, target] = np.maximum(finish[:, target], finish[:, source] + took)
    parallel = 0.3 * live + np.where(np.isfinite(finish[:, 3]), finish[:, 3], 0)
    sums = np.array([0.05 * cell.sums for cell in found])
    return {
        "runs zeros": 1 + live + unfed + sums,
        "folds zeros": 1 + live + sums,
        "parallel branches": 1 + parallel,
    }


@pytest.fixture(scope="module")
def model(runtimes):
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(len(FITTED)))
    return fit_cost(CELL, MIXES[FITTED], runtimes["folds zeros"][FITTED] * noise)


def predictions(model, mixes):
    return np.asarray(jax.jit(jax.vmap(model.cost))(mixes))


@pytest.mark.parametrize("runtime", ["runs zeros", "folds zeros", "parallel branches"])
def test_the_runtime_is_learned_from_few_networks(runtimes, runtime):
    costs = runtimes[runtime]
    fitted = predictions(fit_cost(CELL, MIXES[FITTED], costs[FITTED]), MIXES[REST])
    # Many cells cost exactly the same here, which a prediction matches but for rounding.
    tau = kendalltau(fitted.round(3), costs[REST].round(3)).statistic
    assert tau > (0.85 if runtime == "parallel branches" else 0.98)
    if runtime != "parallel branches":
        np.testing.assert_allclose(fitted, costs[REST], rtol=2e-2)


def test_planted_weights_are_recovered(runtimes):
    weights = np.asarray(fit_cost(CELL, MIXES[FITTED], runtimes["folds zeros"][FITTED]).weights)
    np.testing.assert_allclose(weights[2:6], [0.05, *OPS[1:]], atol=0.01)  # sums, and live ops
    np.testing.assert_allclose(weights[6:], 0, atol=0.01)  # what runs on zeros, and pairs of ops


def test_gross_errors_of_some_measurements_do_not_spoil_the_rest(runtimes):
    costs, wrong = (
        runtimes["folds zeros"][FITTED].copy(),
        np.random.default_rng(2).random(len(FITTED)) < 0.1,
    )
    costs[wrong] += 4
    error = (
        predictions(fit_cost(CELL, MIXES[FITTED], costs), MIXES[REST])
        - runtimes["folds zeros"][REST]
    )
    assert np.median(np.abs(error)) < 0.05


def test_cost_is_the_average_over_all_discrete_cells(model):
    rows = np.random.default_rng(3).dirichlet(np.ones(4), 6).astype(np.float32)
    average = probabilities(rows, MIXES) @ predictions(model, MIXES)
    assert float(jax.jit(model.cost)(rows)) == pytest.approx(float(average), rel=1e-5)


def test_cells_that_are_one_network_cost_the_same(runtimes):
    # Beside what the structure explains, a cost that depends on nothing but which network a cell
    # is.
    texts = [graph_text(CELL, cell) for cell in all_cells(CELL)]
    _, graph = np.unique(texts, return_inverse=True)
    costs = (
        runtimes["folds zeros"] * np.random.default_rng(4).uniform(0.7, 1.3, graph.max() + 1)[graph]
    )
    fitted = predictions(fit_cost(CELL, MIXES[FITTED], costs[FITTED]), MIXES)
    seen = np.isin(graph, graph[FITTED])
    seen[FITTED] = False
    errors = np.abs(fitted / costs - 1)
    assert seen.sum() > 100 and np.median(errors[seen]) < 0.01 < np.median(errors[~seen])


def test_gradient_is_the_finite_difference(model):
    rows = jnp.asarray(np.random.default_rng(5).dirichlet(np.ones(4), 6), jnp.float32)
    cost, gradient = jax.jit(model.cost), jax.jit(jax.grad(model.cost))(rows)
    for edge, op in np.ndindex(rows.shape):
        high, low = (cost(rows.at[edge, op].add(sign * 0.05)) for sign in (1, -1))
        assert gradient[edge, op] == pytest.approx(float(high - low) / 0.1, abs=1e-3)


def test_the_order_of_measurements_does_not_matter(runtimes):
    costs = runtimes["runs zeros"][FITTED]
    shuffled = np.random.default_rng(6).permutation(len(FITTED))
    first = fit_cost(CELL, MIXES[FITTED], costs)
    second = fit_cost(CELL, MIXES[FITTED][shuffled], costs[shuffled])
    assert np.array_equal(first.weights, second.weights) and np.array_equal(
        first.table, second.table
    )


def test_the_unit_does_not_matter(runtimes):
    costs = runtimes["runs zeros"][FITTED]
    first, second = (fit_cost(CELL, MIXES[FITTED], scale * costs) for scale in (1, 1e6))
    np.testing.assert_allclose(
        1e6 * predictions(first, MIXES[REST]), predictions(second, MIXES[REST]), rtol=1e-4
    )


def test_a_model_is_read_back_from_json(model):
    again = CostModel.from_json(model.to_json())
    assert again.spec == model.spec
    assert np.array_equal(again.weights, model.weights) and np.array_equal(again.table, model.table)
    json.loads(model.to_json())


def changed(model, **parts):
    tree = json.loads(model.to_json())
    for name, value in parts.items():
        tree[name] = tree[name] | value if isinstance(tree[name], dict) else value
    return json.dumps(tree)


def test_what_is_no_model_is_refused_with_the_reason(model):
    weights = np.asarray(model.weights).tolist()
    for text, reason in (
        ("{}", "KeyError: 'spec'"),
        ("[1]", "TypeError"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (changed(model, weights=weights[1:]), f"weights is not a list of {len(weights)} finite"),
        (changed(model, weights=[math.nan, *weights[1:]]), "finite numbers"),
        (changed(model, weights=[1e39, *weights[1:]]), "finite numbers"),  # in float32 it is none
        (changed(model, weights=[10**400, *weights[1:]]), "OverflowError"),
        (changed(model, spec={"num_nodes": 10**9}), "more than 1000 nodes"),
        (changed(model, spec={"num_nodes": "3"}), "num_nodes is a whole number, not '3'"),
        (changed(model, spec={"extra": 1}), "TypeError"),
        (changed(model, table=[1.0]), f"table is not a list of {len(MIXES)} finite numbers"),
        (changed(model, table=[math.inf] * len(MIXES)), "finite numbers"),
    ):
        with pytest.raises(ValueError, match=f"not a cost model .*{reason}"):
            CostModel.from_json(text)


def test_a_cell_too_large_to_list_is_fitted_by_its_structure():
    edges = tuple((source, target) for target in range(2, 6) for source in range(target))
    spec = CellSpec(2, 4, edges, ("none", "skip_connect", "conv", "pool"), (2, 3, 4, 5))
    random = np.random.default_rng(7)
    mixes = np.eye(4, dtype=np.float32)[random.integers(0, 4, (150, 14))]
    live = np.array([connected(spec, mix * [0, 1, 1, 1]).live.sum(0) for mix in mixes])
    costs = 1 + live @ [0, 0.1, 2, 0.4]
    model = fit_cost(spec, mixes[:100], costs[:100])
    assert model.table.size == 0
    # What is rare in the networks that were measured is not learned from them.
    errors = np.abs(predictions(model, mixes[100:]) / costs[100:] - 1)
    assert np.mean(errors < 1e-3) > 0.9
    numbers = jax.jit(lambda mix: structure(spec, mix))(mixes[0])
    np.testing.assert_allclose(numbers[3:6], live[0][1:], atol=1e-5)


@pytest.mark.parametrize(
    ("mixes", "costs", "message"),
    [
        (MIXES[:30], np.ones(29), r"mixes are \[N, 6, 4\]"),
        (MIXES[:30, :5], np.ones(30), r"mixes are \[N, 6, 4\]"),
        (MIXES[:19], np.ones(19), "at least 20 measured networks, got 19"),
        (MIXES[:30], np.zeros(30), "positive and finite"),
        (MIXES[:30], np.full(30, np.nan), "positive and finite"),
        (MIXES[:30] * 0.5, np.ones(30), "one-hot"),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(mixes, costs, message):
    if message == "one-hot":
        mixes = mixes + 0.25
    with pytest.raises(ValueError, match=message):
        fit_cost(CELL, mixes, costs)
