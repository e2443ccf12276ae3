"""Where the expected cost is no expectation: by how much it was off on random graphs and mixes.
`expected_cost` quotes these figures."""

import dataclasses
import itertools

import numpy as np
import pytest
from brute_force import all_rows, kept_space, with_relus
from test_expected import cell_space, orders, random_mix, random_table

from dnas.hw_loss import Calibration, expected_cost


def expectation(cost, space, mix):
    """Over all genotypes, each with the probability of being drawn."""
    ((kind, choices),) = space.choices.items()
    return sum(
        probability(choices, mix[kind], rows) * cost.discrete({kind: rows})
        for rows in all_rows(choices)
    )


def probability(choices, weights, rows):
    usable = choices.allowed if choices.keep is None else choices.computes
    weights = weights * usable
    strengths = weights.sum(axis=-1)
    kept = np.flatnonzero(rows.any(axis=-1))
    found = float(np.prod([(weights[row] * rows[row]).sum() / strengths[row] for row in kept]))
    if choices.keep is None:
        return found
    for group in choices.groups:
        own = {place for place, row in enumerate(group) if row in kept}
        drawn = orders([strengths[row] for row in group], choices.keep)
        found *= sum(chance for edges, chance in drawn if set(edges) == own)
    return found


def off(cost, space, seeds=6):
    shares = []
    for seed in range(seeds):
        mix = random_mix(space, seed)
        shares.append(float(cost(mix)) / expectation(cost, space, mix) - 1)
    return np.array(shares)


def cost_of(space, seed=0, metric="latency", relu=0.0):
    layers = space.parts()
    table = random_table(layers, seed)
    if relu:
        calibration = Calibration(0.0, {"": 1.0}, 10, relu)
        table = dataclasses.replace(table, calibrations={metric: calibration})
    return expected_cost(table, layers, metric=metric)


@pytest.mark.parametrize(
    "space",
    [cell_space(), kept_space(2, inputs=2, nodes=2, output="all"), kept_space(1, nodes=2)],
    ids=["independent edges", "all nodes are the output", "one edge a node of two"],
)
def test_elsewhere_it_is_exact(space):
    for seed in range(3):
        assert np.abs(off(cost_of(space, seed), space, 2)).max() < 1e-9


@pytest.mark.parametrize(
    ("keep", "sizes", "most"), [(1, {"nodes": 4}, 0.043), (2, {"inputs": 2}, 0.023)]
)
def test_kept_edges_and_the_last_node_alone_as_output(keep, sizes, most):
    space = kept_space(keep, **sizes)
    shares = np.concatenate([off(cost_of(space, seed), space, 2) for seed in range(4)])
    assert 0.8 * most < np.abs(shares).max() < most and np.all(shares < 0)


def test_relus_that_ops_share():
    space = with_relus(cell_space())
    shares = []
    for seed in range(4):
        cost, mix = cost_of(space, seed, relu=3.0), random_mix(space)
        of_relus = cost.relu * float(cost.relus(mix)) / 1000 / float(cost(mix))
        assert 0.03 < of_relus < 0.06
        shares.append(off(cost, space, 2))
    assert 0.002 < np.abs(shares).max() < 0.004


def test_peak_memory_is_the_largest_of_expectations():
    shares = []
    for space, seed in itertools.product((cell_space(), kept_space(2, inputs=2)), range(3)):
        shares.append(1 + off(cost_of(space, seed, "peak_memory"), space, 2))
    assert 0.56 < np.min(shares) < 0.9 and np.max(shares) < 1 + 1e-9
