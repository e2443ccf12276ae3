"""The sums and the concatenation that a cell makes of what its edges make."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_graph import random_graph

from dnas.cells.cell import run_cell
from dnas.graph import waves


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
