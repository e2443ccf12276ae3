"""Cell graphs are acyclic; waves; live paths, exact and in expectation."""

import dataclasses
import itertools
import random
from functools import partial

import numpy as np
import pytest

import dnas
from dnas.graph import CellSpec, Wave, expected_live, live_edges, waves


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


@pytest.mark.parametrize("concat", [(1, 2), (2, 2, 3), (), (4,)])
def test_a_cell_concatenates_intermediate_nodes_each_once(concat):
    with pytest.raises(ValueError, match="concat names intermediate nodes, 2 to 3, each once"):
        CellSpec(
            num_inputs=2, num_nodes=2, edges=((0, 2), (2, 3)), ops=("skip_connect",), concat=concat
        )


def random_graph(seed):
    """A random directed acyclic graph: every intermediate node is entered at least once."""
    draw = random.Random(seed)
    num_inputs, num_nodes = draw.randint(1, 3), draw.randint(1, 5)
    edges = []
    for target in range(num_inputs, num_inputs + num_nodes):
        sources = draw.sample(range(target), draw.randint(1, target))
        edges += [(source, target) for source in sources]
    draw.shuffle(edges)
    return num_inputs, num_nodes, edges


def edges_of(wave):
    return [(source, target) for source in wave.sources for target in wave.targets]


@pytest.mark.parametrize("seed", range(30))
def test_every_edge_is_in_exactly_one_wave(seed):
    num_inputs, _, edges = random_graph(seed)
    found = [edge for wave in waves(edges, num_inputs) for edge in edges_of(wave)]
    assert sorted(found) == sorted(edges)


@pytest.mark.parametrize("seed", range(30))
def test_every_source_is_complete_before_its_wave(seed):
    num_inputs, _, edges = random_graph(seed)
    done = set()
    for wave in waves(edges, num_inputs):
        for source in wave.sources:
            assert {edge for edge in edges if edge[1] == source} <= done
        done |= set(edges_of(wave))


@pytest.mark.parametrize("seed", range(30))
def test_inputs_never_share_a_wave_with_other_nodes(seed):
    num_inputs, _, edges = random_graph(seed)
    for wave in waves(edges, num_inputs):
        assert len({source < num_inputs for source in wave.sources}) == 1


def test_the_order_of_the_edges_does_not_change_the_waves():
    edges = list(dnas.SPACES["darts"].cells["normal"].edges)
    assert waves(edges, 2) == waves(edges[::-1], 2)


def test_the_darts_cell_has_four_waves():
    found = waves(dnas.SPACES["darts"].cells["normal"].edges, 2)
    assert found == (
        Wave((0, 1), (2, 3, 4, 5)),
        Wave((2,), (3, 4, 5)),
        Wave((3,), (4, 5)),
        Wave((4,), (5,)),
    )


def test_live_edges_of_all_patterns_are_those_of_a_search_for_paths():
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]

    def on_a_path(there, edge):
        def paths(node, path):
            if node == 3:
                yield path
            for own in there:
                if own[0] == node:
                    yield from paths(own[1], [*path, own])

        return any(edge in path for path in paths(0, []))

    for pattern in itertools.product((False, True), repeat=6):
        there = [edge for edge, has in zip(edges, pattern, strict=True) if has]
        assert live_edges(there, 1, [3]) == {edge for edge in there if on_a_path(there, edge)}


def every_set(edges):
    for pattern in itertools.product((0.0, 1.0), repeat=len(edges)):
        yield np.array(pattern), [edge for edge, there in zip(edges, pattern, strict=True) if there]


@pytest.mark.parametrize("live", ["path", "output"])
def test_the_probability_to_run_is_the_share_of_all_sets_of_edges_in_which_one_does(live):
    edges = [(0, 2), (1, 2), (0, 3), (2, 3), (2, 4), (3, 4)]
    spec = CellSpec(2, 3, tuple(edges), ("none", "conv"), (3, 4))
    there = np.random.default_rng(0).random(len(edges))
    total = np.zeros(len(edges))
    for pattern, chosen in every_set(edges):
        alive = live_edges(chosen, 2, spec.concat, live)
        total += np.prod(np.where(pattern, there, 1 - there)) * np.array(
            [edge in alive for edge in edges]
        )
    found = expected_live(spec, there, live=live)
    np.testing.assert_allclose(there * found, total, rtol=1e-12)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("nodes", [4, 14])
def test_at_the_corners_the_probability_to_run_is_whether_an_edge_does(nodes, kept):
    edges = [
        (source, target)
        for target in range(1, nodes + 1)
        for source in (target - 1, target - 2, target - 4)
        if source >= 0
    ]
    spec = CellSpec(1, nodes, tuple(edges), ("none", "conv"), (nodes - 1, nodes))
    random = np.random.default_rng(0)
    for live in ("path", "output"):
        liveness = partial(expected_live, spec, live=live, kept=kept)
        for _ in range(20):
            there = (random.random(len(edges)) < 0.6).astype(float)
            alive = live_edges(
                [edge for edge, has in zip(edges, there, strict=True) if has], 1, spec.concat, live
            )
            assert np.array_equal(there * liveness(there), [float(edge in alive) for edge in edges])
        found = liveness(random.random(len(edges)))
        assert np.all((found >= 0) & (found <= 1 + 1e-12))
