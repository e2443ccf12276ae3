"""The cell as a graph: waves of edges, and the sums and concatenation that a cell makes."""

import random

import jax.numpy as jnp
import numpy as np
import pytest

from dnas.cells.cell import Wave, run_cell, waves
from dnas.spaces import SPACES


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
    edges = list(SPACES["darts"].cells["normal"].edges)
    assert waves(edges, 2) == waves(edges[::-1], 2)


def test_the_darts_cell_has_four_waves():
    found = waves(SPACES["darts"].cells["normal"].edges, 2)
    assert found == (
        Wave((0, 1), (2, 3, 4, 5)),
        Wave((2,), (3, 4, 5)),
        Wave((3,), (4, 5)),
        Wave((4,), (5,)),
    )


@pytest.mark.parametrize("seed", range(10))
def test_cell_sums_edges_and_concatenates_nodes(seed):
    num_inputs, num_nodes, edges = random_graph(seed)
    inputs = [jnp.full((1, 2, 2, 3), 1.0 + number) for number in range(num_inputs)]
    gain = {edge: 0.5 + 0.1 * number for number, edge in enumerate(edges)}

    def run_wave(wave, xs):
        return [
            sum(gain[s, t] * x for s, x in zip(wave.sources, xs, strict=True)) for t in wave.targets
        ]

    concat = tuple(range(num_inputs, num_inputs + num_nodes))
    y = run_cell(waves(edges, num_inputs), concat, run_wave, inputs)
    states = [1.0 + number for number in range(num_inputs)]
    for node in concat:
        states.append(sum(gain[edge] * states[edge[0]] for edge in edges if edge[1] == node))
    assert y.shape == (1, 2, 2, 3 * num_nodes)
    np.testing.assert_allclose(y[0, 0, 0, ::3], states[num_inputs:], rtol=1e-5)


def test_cell_concatenates_in_the_order_given():
    def run_wave(wave, xs):
        return [xs[0] * target for target in wave.targets]

    y = run_cell(waves([(0, 1), (0, 2)], 1), (2, 1), run_wave, [jnp.ones((1, 1, 1, 1))])
    assert y.ravel().tolist() == [2.0, 1.0]
