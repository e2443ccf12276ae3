"""Cells that are the same network have the same text, and others have not."""

import jax
import numpy as np
import pytest
from measured_cells import CELL, SPECS, all_mixes, probabilities

from dnas.graph import CellSpec
from dnas.hw_loss.graphs import all_cells, average_over_cells, count_cells, graph_text


def text(*choices, zeros="fold"):
    return graph_text(CELL, choices, zeros=zeros)


@pytest.mark.parametrize("zeros", ["run", "fold_ops", "fold"])
def test_identities_merge_and_dead_branches_drop(zeros):
    first = text("conv", "none", "none", "none", "skip_connect", "none", zeros=zeros)
    second = text("skip_connect", "none", "none", "none", "conv", "none", zeros=zeros)
    # Node 2 leads nowhere.
    dead = text("skip_connect", "pool", "conv", "none", "conv", "none", zeros=zeros)
    assert first == second == dead


def test_the_order_of_branches_does_not_matter_but_the_order_of_ops_does():
    assert text("conv", "pool", "none", "none", "pool", "conv") == text(
        "pool", "conv", "none", "none", "conv", "pool"
    )
    assert text("conv", "none", "none", "none", "pool", "none") != text(
        "pool", "none", "none", "none", "conv", "none"
    )


def test_what_is_made_of_zeros_depends_on_the_rule():
    def differs(first, second, zeros):
        return text(*first, zeros=zeros) != text(*second, zeros=zeros)

    # A convolution of node 1, into which nothing leads; and one of node 2, a sum of two missing
    # tensors.
    plain = ["none", "none", "none", "conv", "none", "none"]
    of_missing, of_sum = [*plain[:4], "conv", "none"], [*plain[:5], "conv"]
    assert [differs(plain, of_missing, rule) for rule in ("run", "fold_ops", "fold")] == [
        True,
        False,
        False,
    ]
    assert [differs(plain, of_sum, rule) for rule in ("run", "fold_ops", "fold")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", SPECS)
def test_average_over_cells_is_the_expectation(name):
    spec = SPECS[name]
    rows = (
        np.random.default_rng(1)
        .dirichlet(np.ones(len(spec.ops)), len(spec.edges))
        .astype(np.float32)
        * 0.9
    )
    cells, mixes = all_cells(spec), all_mixes(spec)
    assert len(cells) == count_cells(spec) == len(mixes)
    values = np.random.default_rng(2).random(len(cells)).astype(np.float32)
    assert float(average_over_cells(spec, values, rows)) == pytest.approx(
        values @ probabilities(rows, mixes), rel=1e-5
    )
    at_cells = jax.jit(jax.vmap(lambda mix: average_over_cells(spec, values, mix)))(mixes)
    assert np.array_equal(at_cells, values)


def test_spaces_too_large_to_list_are_refused():
    spec = CellSpec(
        1, 14, tuple((node, node + 1) for node in range(14)), ("none", "conv", "pool"), (14,)
    )
    with pytest.raises(ValueError, match="4782969 cells are too many"):
        all_cells(spec)
