"""The strongest pairs of an edge and an op."""

import jax
import numpy as np
import pytest

import dnas
from dnas.cells import search_norms
from dnas.contracts import check_selection
from dnas.selection import argmax_edges, top_edges, top_pairs
from dnas.space import inherit_weights, one_hot_mix

DARTS = dnas.SPACES["darts"]


def random_mix(seed, space=DARTS):
    random = np.random.default_rng(seed)
    return {kind: random.uniform(size=own.shape) for kind, own in space.choices.items()}


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_the_released_code(seed):
    """Its rule written out with loops."""
    mix = random_mix(seed)
    genotype = top_pairs()(DARTS, mix)
    for kind, cell in DARTS.cells.items():
        expected = []
        for node in range(2, 6):
            pairs = []
            for source in range(node):
                row = mix[kind][cell.edges.index((source, node))]
                for op, weight in zip(cell.ops, row, strict=True):
                    if op != "none":
                        pairs.append((source, node, op, weight))
            expected += [pair[:3] for pair in sorted(pairs, key=lambda pair: -pair[3])[:2]]
        assert list(genotype.cells[kind]) == expected


def test_two_ops_of_one_edge_are_kept_where_they_are_the_strongest():
    mix = {kind: np.zeros((14, 8)) for kind in DARTS.cells}
    for rows in mix.values():
        rows[0, [4, 6]] = 0.9, 0.8  # the edge 0 -> 2
    edges = top_pairs()(DARTS, mix).cells["normal"]
    assert edges[:2] == ((0, 2, "sep_conv_3x3"), (0, 2, "dil_conv_3x3"))


def test_where_the_best_ops_are_on_different_edges_it_is_the_rule_of_darts():
    mix = random_mix(0)
    for rows in mix.values():
        rows[rows < rows.max(1, keepdims=True)] *= 1e-3
        rows[:, 0] = 0
    assert top_pairs()(DARTS, mix) == top_edges()(DARTS, mix)


@pytest.mark.parametrize("name", ["nasbench201", "fbnet"])
def test_where_every_edge_keeps_an_op_it_is_the_strongest(name):
    space = dnas.SPACES[name]
    mix = random_mix(0, space)
    assert top_pairs()(space, mix) == argmax_edges()(space, mix)


def test_selection_keeps_its_contract_on_the_recurrent_cell():
    check_selection(top_pairs(), dnas.SPACES["recurrent"])


def test_the_network_of_two_ops_on_an_edge_is_the_supernet_at_its_mix():
    space = dnas.darts_space(name="tiny", ops=("none", "sep_conv_3x3", "dil_conv_3x3"), num_nodes=1)
    mix = {kind: np.array([[0.0, 0.9, 0.8], [1.0, 0.1, 0.1]]) for kind in space.cells}
    genotype = top_pairs()(space, mix)
    assert dnas.Genotype.from_json(genotype.to_json()) == genotype
    sizes = dict(channels=4, num_cells=1, num_classes=3)
    supernet = space.supernet(**sizes)
    network = space.network(genotype, **sizes, norms=lambda train: search_norms())
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    weights = supernet.init(jax.random.key(1), images)
    own = inherit_weights(
        space, genotype, weights["params"], network.init(jax.random.key(2), images)
    )
    expected = supernet.apply(weights, one_hot_mix(space, genotype), images)[0].logits
    np.testing.assert_allclose(network.apply(own, {}, images)[0].logits, expected, atol=1e-4)
