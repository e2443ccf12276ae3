"""What cost models count of cells, and the process over networks."""

import jax
import numpy as np
import pytest
from measured_cells import SPECS, all_mixes, connected

from dnas.graph import CellSpec
from dnas.hw_loss import fit_cost, process
from dnas.hw_loss.graphs import all_cells, count_what_runs, graph_text
from dnas.hw_loss.robust import fit_robustly


@pytest.mark.parametrize("name", SPECS)
def test_what_runs_is_what_walking_the_edges_finds(name):
    spec = SPECS[name]
    cells, mixes = all_cells(spec), all_mixes(spec)
    for number in np.random.default_rng(0).permutation(len(cells))[:60]:
        found = count_what_runs(spec, cells[number])
        live = connected(spec, mixes[number])
        for column, op in enumerate(spec.ops):
            assert found["op", op, "on data"] == live.live[:, column].sum()
            assert found["op", op, "on zeros"] == live.unfed[:, column].sum()
        # A node sums all that runs into it, zeros or not.
        runs = sum(count for key, count in found.items() if key[0] == "op")
        nodes = {key[1]: count for key, count in found.items() if key[0] == "node"}
        sizes = {size: count for size, count in nodes.items() if isinstance(size, int)}
        assert runs == sum(size * count for size, count in sizes.items())
        assert found["additions"] == sum(max(size - 1, 0) * sizes[size] for size in sizes)


def test_longest_paths_readers_and_makers():
    spec = CellSpec(1, 3, SPECS["one input"].edges, ("none", "conv", "skip_connect"), (3,))
    # 1 = conv(0); 2 = skip(1); 3 = conv(1) + conv(2) + conv(0): node 2 is made by a conv.
    cell = ["conv", "none", "skip_connect", "conv", "conv", "conv"]
    found = count_what_runs(spec, cell)
    assert found["longest", "conv"] == 2 and found["longest", "skip_connect"] == 1
    assert found["pair", "an input", "conv"] == 2 and found["pair", "conv", "conv"] == 2
    assert found["read by", "conv"] == 3 and found["read by several"] == 1
    assert found["node", 3] == 1 and found["node", 1] == 2 and found["absent"] == 1


@pytest.mark.parametrize("zeros", ["run", "fold_ops", "fold"])
def test_the_rule_by_which_a_runtime_folds_is_learned(zeros):
    """Costs that depend on which network is executed, under one rule, and on nothing else."""
    spec = SPECS["one input"]
    cells, mixes = all_cells(spec), all_mixes(spec)
    texts = [graph_text(spec, cell, zeros=zeros) for cell in cells]
    _, network = np.unique(texts, return_inverse=True)
    random = np.random.default_rng(1)
    costs = random.uniform(1, 3, network.max() + 1)[network]
    rows = random.permutation(len(cells))
    fitted, rest = rows[:400], rows[400:]
    model = fit_cost(spec, mixes[fitted], costs[fitted])
    seen = np.isin(network[rest], network[fitted])
    found = np.asarray(jax.jit(jax.vmap(model.cost))(mixes[rest]))
    errors = np.abs(found / costs[rest] - 1)
    # Two rules may agree on all that was measured.
    assert seen.sum() > 50 and np.mean(errors[seen] < 0.01) > 0.95
    assert np.median(errors[~seen]) > 0.05


def test_whether_costs_or_their_logarithms_add_up_is_learned(monkeypatch):
    """Ops that run add to a cost, or multiply it."""
    spec = SPECS["one input"]
    random = np.random.default_rng(0)
    counts = [count_what_runs(spec, cell) for cell in all_cells(spec)]
    runs = np.array([[own["op", op, "on data"] for op in spec.ops] for own in counts])
    sums = 1 + runs @ random.uniform(0.2, 0.8, len(spec.ops))
    fitted = random.permutation(len(sums))[:100]

    def predict(costs):
        found, _ = process.predict_cells(spec, fitted, costs[fitted], 1 / costs[fitted])
        return found, np.median(np.abs(found / costs - 1))

    added, _ = predict(sums)
    _, error = predict(np.exp(sums))
    monkeypatch.setattr(process, "_SCALES", process._SCALES[:1])
    np.testing.assert_array_equal(predict(sums)[0], added)
    assert error < 0.5 * predict(np.exp(sums))[1]


def test_the_regression_is_least_squares_but_for_what_is_grossly_off():
    random = np.random.default_rng(2)
    numbers = np.c_[np.ones(200), random.standard_normal((200, 3))]
    weights = np.array([5.0, 1.0, 0.0, -0.5])
    costs = numbers @ weights
    wrong = random.random(200) < 0.1
    found, left_out = fit_robustly(
        numbers, costs + 30 * wrong, np.full(200, 0.2), [np.ones(4), np.array([1.0, 0, 0, 0])]
    )
    np.testing.assert_allclose(found, weights, atol=0.02)
    np.testing.assert_allclose(left_out, costs, atol=0.05)
    # A number of no trust has no weight.
    alone, _ = fit_robustly(numbers, costs, np.full(200, 0.2), [np.array([1.0, 1, 0, 0])])
    assert alone[2] == alone[3] == 0
