"""Cell graphs are acyclic, genotypes are checked against them, and a one-hot mix says the same as
its genotype."""

import dataclasses

import numpy as np
import pytest

import dnas
from dnas.genotype import Genotype
from dnas.space import CellSpec, check_genotype, one_hot_mix


def spec(**changes):
    parts = dict(
        num_inputs=2, num_nodes=2, edges=((0, 2), (1, 2), (2, 3)), ops=("a", "b"), concat=(2, 3)
    )
    return CellSpec(**parts | changes)


@pytest.mark.parametrize(
    "edges",
    [((2, 2),), ((3, 2),), ((0, 1),), ((0, 4),), ((-1, 2),), ((0, 2), (0, 2))],
    ids=["loop", "backward", "into an input", "beyond", "from below", "repeated"],
)
def test_edges_that_are_no_graph_are_refused(edges):
    with pytest.raises(ValueError, match="edge"):
        spec(edges=edges)


def test_repeated_ops_are_refused():
    with pytest.raises(ValueError, match="unique"):
        spec(ops=("a", "a"))


@pytest.mark.parametrize("name", dnas.SPACES)
def test_every_edge_enters_exactly_one_node(name):
    for cell in dnas.SPACES[name].cells.values():
        rows = [row for node in cell.nodes for row in cell.incoming(node)]
        assert sorted(rows) == list(range(len(cell.edges)))
        assert all(cell.edges[row][1] == node for node in cell.nodes for row in cell.incoming(node))
        assert set(cell.concat) <= set(cell.nodes)


@pytest.mark.parametrize("num_nodes", [1, 2, 4, 6])
def test_darts_cell_has_an_edge_from_every_earlier_node(num_nodes):
    cell = dnas.darts_space(num_nodes=num_nodes).cells["normal"]
    assert len(cell.edges) == sum(range(2, 2 + num_nodes))
    assert set(cell.edges) == {
        (source, target) for target in cell.nodes for source in range(target)
    }
    assert list(cell.edges) == sorted(cell.edges, key=lambda edge: edge[::-1])


def test_spec_is_hashable_and_frozen():
    assert len({spec(), spec()}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().num_nodes = 3


DARTS = dnas.SPACES["darts"]
GENOTYPE = dnas.PUBLISHED["DARTS_V2"]


def with_normal(edges, concat=None):
    return Genotype(
        "darts", dict(GENOTYPE.cells) | {"normal": edges}, {"normal": concat} if concat else {}
    )


MISFITS = {
    "another space": (Genotype("other", GENOTYPE.cells), "'other'.*'darts'"),
    "a cell too few": (Genotype("darts", {"normal": GENOTYPE.cells["normal"]}), "'reduce'"),
    "a cell too many": (
        Genotype("darts", dict(GENOTYPE.cells) | {"more": [(0, 2, "skip_connect")]}),
        "'more'",
    ),
    "an unknown op": (
        with_normal([(0, 2, "sep_conv_9x9")], [2]),
        "sep_conv_9x9.*choose from.*sep_conv_3x3",
    ),
    "an unknown edge": (with_normal([(0, 9, "skip_connect")], [9]), "0 -> 9"),
    "into an input": (with_normal([(0, 1, "skip_connect"), (1, 2, "skip_connect")], [2]), "0 -> 1"),
    "a node that nothing enters": (
        with_normal([(0, 2, "skip_connect"), (3, 4, "skip_connect")], [2]),
        r"\[3\]",
    ),
    "an output that nothing enters": (with_normal([(0, 4, "skip_connect")], [3]), r"\[3\]"),
    "an input as output": (with_normal([(0, 2, "skip_connect")], [0, 2]), r"\[0\]"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize(
    "check", [check_genotype, one_hot_mix, DARTS.network], ids=["check", "mix", "network"]
)
def test_genotype_that_does_not_fit_is_refused_with_the_reason(name, check):
    genotype, reason = MISFITS[name]
    with pytest.raises(ValueError, match=reason):
        check(genotype) if check is DARTS.network else check(DARTS, genotype)


@pytest.mark.parametrize("name", dnas.PUBLISHED)
def test_one_hot_mix_holds_a_one_for_each_edge_of_the_genotype(name):
    genotype = dnas.PUBLISHED[name]
    space = dnas.SPACES[genotype.space]
    for kind, rows in one_hot_mix(space, genotype).items():
        cell = space.cells[kind]
        ones = {
            (*cell.edges[row], cell.ops[column])
            for row, column in zip(*np.nonzero(np.asarray(rows)), strict=True)
        }
        assert ones == set(genotype.cells[kind])
        assert float(rows.sum()) == len(genotype.cells[kind])
        assert rows.shape == (len(cell.edges), len(cell.ops))


def test_two_ops_on_one_edge_are_two_ones():
    genotype = with_normal([(0, 2, "skip_connect"), (0, 2, "max_pool_3x3")])
    assert float(one_hot_mix(DARTS, genotype)["normal"][0].sum()) == 2.0


@pytest.mark.parametrize("concat", [(1, 2), (2, 2, 3), (), (4,)])
def test_a_cell_concatenates_intermediate_nodes_each_once(concat):
    with pytest.raises(ValueError, match="concat names intermediate nodes, 2 to 3, each once"):
        CellSpec(
            num_inputs=2, num_nodes=2, edges=((0, 2), (2, 3)), ops=("skip_connect",), concat=concat
        )
