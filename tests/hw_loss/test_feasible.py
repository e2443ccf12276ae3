"""The range of costs against all genotypes, and repair: within the bound, and no more switched than it takes."""

import itertools

import jax
import numpy as np
import pytest
from test_expected import SIZES, SPACES, cell_space, chain_space, random_mix, random_table, sizes_of

import dnas
from dnas.genotype import Genotype
from dnas.hw_loss import expected_cost, feasible_range, genotype_cost, repair
from dnas.hw_loss.feasible import cheapest_mix
from dnas.selection import default_selection, random_genotype
from dnas.space import one_hot_mix


def cost_of(space, sizes=None, **more):
    layers = space.parts(**(sizes or {}))
    return expected_cost(random_table(layers), layers, **{"metric": "latency", **more})


def all_cells(space, kind):
    """Every genotype of a small cell of which every edge keeps an op."""
    spec = space.cells[kind]
    own = [[op for op, may in zip(spec.ops, row, strict=True) if may] for row in spec.allowed]
    for ops in itertools.product(*own):
        yield Genotype(space.name, {kind: [(*edge, op) for edge, op in zip(spec.edges, ops, strict=True)]}, {kind: spec.concat})


@pytest.mark.parametrize("live", ["path", "output", "all"])
@pytest.mark.parametrize("metric", ["latency", "peak_memory"])
@pytest.mark.parametrize("name", ["chain", "cells"])
def test_the_range_is_that_of_all_genotypes(name, metric, live):
    space = SPACES[name]
    cost = cost_of(space, metric=metric, live=live)
    (kind,) = space.cells
    costs = [cost(one_hot_mix(space, genotype)) for genotype in all_cells(space, kind)]
    found = feasible_range(cost)
    assert found.exact
    assert (found.least, found.largest) == pytest.approx((min(costs), max(costs)), rel=1e-12)
    assert cost(cheapest_mix(cost)) == pytest.approx(found.least, rel=1e-12)


def test_the_range_of_darts_is_that_of_all_its_genotypes():
    space = dnas.darts_space(name="small", ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=2)
    cost = cost_of(space, SIZES)
    spec = space.cells["normal"]
    ends = []
    for end in (min, max):
        total = cost.fixed
        for kind in space.cells:
            cells = []
            for kept in itertools.combinations(spec.incoming(3), 2):
                edges = [*spec.incoming(2), *kept]
                cells += [
                    sum(cost.per_op[kind][edge, op] for edge, op in zip(edges, ops, strict=True))
                    for ops in itertools.product((1, 2), repeat=4)
                ]
            total += end(cells)
        ends.append(total)
    found = feasible_range(cost)
    assert found.exact and (found.least, found.largest) == pytest.approx(ends, rel=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_no_genotype_is_outside_of_the_range(name):
    space = SPACES[name]
    cost = cost_of(space, sizes_of(name))
    found = feasible_range(cost)
    for seed in range(10):
        value = cost(one_hot_mix(space, random_genotype(jax.random.key(seed), space)))
        assert found.least - 1e-9 <= value <= found.largest + 1e-9
    assert cost(cheapest_mix(cost)) == pytest.approx(found.least, rel=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
@pytest.mark.parametrize("name", ["chain", "cells"])
def test_a_repaired_genotype_meets_the_bound(name, share):
    space = SPACES[name]
    cost = cost_of(space)
    ends = feasible_range(cost)
    bound = ends.least + share * (ends.largest - ends.least)
    for seed in range(5):
        mix = random_mix(space, seed)
        genotype = default_selection(space, mix)
        repaired = repair(cost, space, genotype, mix, bound)
        assert genotype_cost(random_table(space.parts()), space, repaired, metric="latency") <= bound
        if cost(one_hot_mix(space, genotype)) <= bound:
            assert repaired == genotype


def test_a_repaired_darts_cell_meets_the_bound_and_keeps_its_edges():
    space = dnas.SPACES["darts"]
    cost = cost_of(space, SIZES)
    mix = random_mix(space)
    genotype = default_selection(space, mix)
    bound = 0.8 * cost(one_hot_mix(space, genotype))
    repaired = repair(cost, space, genotype, mix, bound)
    assert cost(one_hot_mix(space, repaired)) <= bound
    for kind, edges in genotype.cells.items():
        assert [edge[:2] for edge in edges] == [edge[:2] for edge in repaired.cells[kind]]


def test_one_switch_is_the_one_that_loses_least():
    space = chain_space(ops=("a", "b"), length=3)
    layers = space.parts()
    cost = expected_cost(random_table(layers), layers, metric="latency")
    dear = cost.per_op["layers"].argmax(axis=-1)
    dear[1] = 0  # its only op
    saved = np.array([abs(row[0] - row[1]) if n != 1 else 0.0 for n, row in enumerate(cost.per_op["layers"])])
    mix = {"layers": np.zeros((3, 2))}
    for layer, weight in enumerate((0.9, 1.0, 0.6)):
        mix["layers"][layer, dear[layer]] = weight
        mix["layers"][layer, 1 - dear[layer]] = 1 - weight
    genotype = default_selection(space, mix)
    bound = cost(one_hot_mix(space, genotype)) - 0.5 * saved[[0, 2]].min()
    repaired = repair(cost, space, genotype, mix, bound)
    changed = [old.source for old, new in zip(genotype.cells["layers"], repaired.cells["layers"], strict=True) if old != new]
    assert changed == [2]


def test_a_bound_that_no_genotype_meets_is_refused_with_the_range():
    space = cell_space()
    cost = cost_of(space)
    ends = feasible_range(cost)
    mix = random_mix(space)
    with pytest.raises(ValueError, match=rf"latency of at most .* ranges from {ends.least:g} to {ends.largest:g} ms"):
        repair(cost, space, default_selection(space, mix), mix, 0.9 * ends.least)


def test_a_bound_that_needs_other_edges_says_so():
    space = dnas.SPACES["darts"]
    cost = cost_of(space, SIZES)
    mix = random_mix(space)
    genotype = default_selection(space, mix)
    least = feasible_range(cost).least
    with pytest.raises(ValueError, match="other edges would have to be chosen"):
        repair(cost, space, genotype, mix, least * 1.0001)
