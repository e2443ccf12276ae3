"""The range of costs against that of all genotypes."""

import dataclasses
import itertools

import jax
import pytest
from brute_force import SMALL, all_genotypes
from test_expected import SIZES, SPACES, random_table, sizes_of

import dnas
from dnas.genotype import Genotype
from dnas.graph import live_edges
from dnas.hw_loss import Calibration, expected_cost, feasible_range
from dnas.hw_loss.feasible import cheapest_mix
from dnas.selection import random_genotype
from dnas.space import one_hot_mix


def cost_of(space, sizes=None, **more):
    layers = space.parts(**(sizes or {}))
    return expected_cost(random_table(layers), layers, **{"metric": "latency", **more})


def all_cells(space, kind):
    """Every genotype of a small cell of which every edge keeps an op."""
    spec = space.cells[kind]
    own = [
        [op for op, may in zip(spec.ops, row, strict=True) if may] for row in spec.choices.allowed
    ]
    for ops in itertools.product(*own):
        yield Genotype(
            space.name,
            {kind: [(*edge, op) for edge, op in zip(spec.edges, ops, strict=True)]},
            {kind: spec.concat},
        )


def is_connected(space, kind, genotype):
    there = {edge[:2] for edge in genotype.cells[kind] if edge.op != "none"}
    return bool(live_edges(there, space.cells[kind].num_inputs, space.cells[kind].concat))


@pytest.mark.parametrize("live", ["path", "output", "all"])
@pytest.mark.parametrize("metric", ["latency", "peak_memory"])
@pytest.mark.parametrize("name", ["chain", "cells"])
def test_the_range_is_that_of_all_genotypes(name, metric, live):
    space = SPACES[name]
    cost = cost_of(space, metric=metric, live=live)
    (kind,) = space.cells
    costs = [
        cost(one_hot_mix(space, genotype))
        for genotype in all_cells(space, kind)
        if is_connected(space, kind, genotype)
    ]
    found = feasible_range(cost)
    assert found.exact
    assert (found.least, found.largest) == pytest.approx((min(costs), max(costs)), rel=1e-12)
    assert cost(cheapest_mix(cost)) == pytest.approx(found.least, rel=1e-12)


def test_the_range_of_darts_is_that_of_all_its_genotypes():
    space = dnas.darts_space(
        name="small", ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=2
    )
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
                    sum(cost.if_run[kind][edge, op] for edge, op in zip(edges, ops, strict=True))
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
        genotype = random_genotype(jax.random.key(seed), space)
        if not all(is_connected(space, kind, genotype) for kind in space.cells):
            continue
        value = cost(one_hot_mix(space, genotype))
        assert found.least - 1e-9 <= value <= found.largest + 1e-9
    assert cost(cheapest_mix(cost)) == pytest.approx(found.least, rel=1e-12)


@pytest.mark.parametrize("metric", ["latency", "peak_memory"])
@pytest.mark.parametrize("name", SMALL)
def test_it_is_exact_wherever_the_output_is_and_with_shared_relus(name, metric):
    space = SMALL[name]
    layers = space.parts()
    table = random_table(layers)
    if "ReLUs" in name and metric == "latency":
        calibration = Calibration(0.1, {"": 1.1}, 10, 5.0)
        table = dataclasses.replace(table, calibrations={metric: calibration})
    cost = expected_cost(table, layers, metric=metric)
    costs = [cost.discrete(own) for own in all_genotypes(space)]
    found = feasible_range(cost)
    assert found.exact
    assert (found.least, found.largest) == pytest.approx((min(costs), max(costs)), rel=1e-12)
