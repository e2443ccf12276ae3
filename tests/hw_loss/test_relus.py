"""ReLUs that ops share: counted once where something else reads the node as well, in expectation
and in calibrations."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64
from test_expected import SPACES, cell_space, random_mix, random_table, sizes_of

import dnas
from dnas.hw_loss import (
    Calibration,
    calibrate,
    expected_cost,
    feasible_range,
    genotype_cost,
    read_table,
    write_table,
)
from dnas.selection import random_genotype
from dnas.space import one_hot_mix

CONVS = {"sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"}
DARTS, SIZES = dnas.SPACES["darts"], dict(channels=4, num_cells=3, image_size=16)


def with_relus(table, relu=0.3, metric="latency"):
    return dataclasses.replace(table, calibrations={metric: Calibration(0.5, {"": 1.2}, 10, relu)})


def cells_with_relus():
    """The made-up cells, whose convolutions begin with a ReLU."""
    space = cell_space()
    layers = space.parts()._replace(begins_with_relu=lambda part: part.op == "conv")
    return space._replace(parts=lambda: layers)


def counted_by_hand(genotype, *, channels, num_cells, image_size):
    """From the description of DARTS's network: which nodes are read by a convolution, and by
    something else as well."""
    total, side, width = 0, image_size, channels
    for number in range(num_cells):
        kind = "reduce" if number in (num_cells // 3, 2 * num_cells // 3) else "normal"
        if kind == "reduce":
            width *= 2
        for node in range(5):
            ops = [op for source, _, op in genotype.cells[kind] if source == node]
            strided = kind == "reduce" and node < 2
            relus = [op in CONVS or (strided and op == "skip_connect") for op in ops]
            if any(relus) and (node >= 2 or not all(relus)):
                inner = side // 2 if kind == "reduce" and node >= 2 else side
                total += inner**2 * width
        if kind == "reduce":
            side //= 2
    return total


@pytest.mark.parametrize(
    "name", ["DARTS_V1", "DARTS_V2", "PDARTS", "random 0", "random 1", "random 2"]
)
def test_relus_are_those_of_nodes_that_a_convolution_and_something_else_reads(name):
    seed = name.removeprefix("random ")
    genotype = (
        random_genotype(jax.random.key(int(seed)), DARTS)
        if seed.isdigit()
        else dnas.PUBLISHED[name]
    )
    layers = DARTS.parts(**SIZES)
    mix = one_hot_mix(DARTS, genotype)
    assert float(
        expected_cost(random_table(layers), layers, metric="latency").relus(mix)
    ) == counted_by_hand(genotype, **SIZES)


@pytest.mark.parametrize("name", ["darts", "nasbench201", "s3", "fbnet", "recurrent"])
def test_the_cost_of_a_one_hot_mix_is_that_of_the_genotype_exactly(name):
    space, sizes = SPACES[name], sizes_of(name)
    layers = space.parts(**sizes)
    table = with_relus(random_table(layers))
    cost, plain = (
        expected_cost(table, layers, metric="latency"),
        expected_cost(with_relus(table, 0.0), layers, metric="latency"),
    )
    more = []
    for seed in range(6):
        genotype = random_genotype(jax.random.key(seed), space)
        mix = one_hot_mix(space, genotype)
        assert cost(mix) == genotype_cost(table, space, genotype, metric="latency", **sizes)
        assert float(jax.jit(cost)(mix)) == pytest.approx(cost(mix), rel=1e-5)
        assert sum(cost.by_op(mix).values()) == pytest.approx(cost(mix))
        more.append(cost(mix) - plain(mix))
        assert more[-1] == pytest.approx(0.3 * float(cost.relus(mix)) / 1000, abs=1e-6)
    assert (max(more) > 0) == (name in ("darts", "nasbench201", "s3"))


def test_in_between_it_is_the_expectation_over_independent_edges():
    """On a graph all of whose nodes are live, so that nothing but the draws of the edges
    decides."""
    space = cells_with_relus()
    spec, layers, mix = space.cells["cell"], space.parts(), random_mix(space)
    table = with_relus(random_table(layers))
    cost, total = expected_cost(table, layers, metric="latency", live="all"), 0.0
    for ops in itertools.product(range(len(spec.ops)), repeat=len(spec.edges)):
        chance = np.prod([mix["cell"][edge, op] for edge, op in enumerate(ops)])
        total += chance * float(cost.relus({"cell": np.eye(len(spec.ops))[list(ops)]}))
    assert float(cost.relus(mix)) == pytest.approx(total, rel=1e-9) and total > 0


@pytest.mark.parametrize(
    "space",
    [pytest.param(DARTS, marks=pytest.mark.slow), cells_with_relus()],
    ids=["darts", "cells"],
)
def test_the_gradient_is_that_of_finite_differences(space):
    layers = space.parts(**(SIZES if space is DARTS else {}))
    cost, mix = (
        expected_cost(with_relus(random_table(layers)), layers, metric="latency"),
        random_mix(space),
    )
    with enable_x64(True):
        rows = jax.tree.map(jnp.asarray, mix)
        found = jax.grad(cost.relus)(rows)
    for kind, rows in mix.items():
        for place in [(0, 1), (2, 2), (len(rows) - 1, 1)]:
            ends = []
            for step in (1e-6, -1e-6):
                moved = {**mix, kind: rows.copy()}
                moved[kind][place] += step
                ends.append(float(cost.relus(moved)))
            assert float(found[kind][place]) == pytest.approx(
                (ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-4
            )


def test_no_network_is_outside_of_the_feasible_range():
    layers = DARTS.parts(**SIZES)
    cost = expected_cost(with_relus(random_table(layers), relu=1.0), layers, metric="latency")
    ends = feasible_range(cost)
    costs = [
        float(cost(one_hot_mix(DARTS, random_genotype(jax.random.key(seed), DARTS))))
        for seed in range(30)
    ]
    assert ends.least <= min(costs) and max(costs) <= ends.largest
    plain = feasible_range(dataclasses.replace(cost, relu=0.0))
    assert plain.exact and ends.largest > plain.largest


def test_a_calibration_finds_what_relus_cost():
    space = cells_with_relus()
    table = random_table(space.parts())
    genotypes = list(
        dict.fromkeys(random_genotype(jax.random.key(seed), space) for seed in range(80))
    )
    measured = np.array(
        [genotype_cost(with_relus(table), space, own, metric="latency") for own in genotypes]
    )
    assert len(genotypes) > 50
    made = calibrate(table, space, genotypes[:40], measured[:40], metric="latency")
    assert made.calibrations["latency"].relu == pytest.approx(0.3, rel=0.02)
    found = [genotype_cost(made, space, own, metric="latency") for own in genotypes[40:]]
    np.testing.assert_allclose(found, measured[40:], rtol=5e-3)


def test_relus_that_would_cost_less_than_nothing_are_left_out():
    space = cells_with_relus()
    table = random_table(space.parts())
    genotypes = [random_genotype(jax.random.key(seed), space) for seed in range(40)]
    cost = expected_cost(table, space.parts(), metric="latency")
    numbers = np.array([float(cost.relus(one_hot_mix(space, own))) for own in genotypes])
    measured = (
        20
        + np.array([genotype_cost(table, space, own, metric="latency") for own in genotypes])
        - 0.01 * numbers
    )
    assert (
        calibrate(table, space, genotypes, measured, metric="latency").calibrations["latency"].relu
        == 0
    )
    with pytest.raises(ValueError, match="ReLUs cost at least nothing"):
        with_relus(table, -0.1)


def test_the_calibration_is_written_and_read():
    table = with_relus(random_table(DARTS.parts(**SIZES)), relu=1.5e-4)
    assert "+ 1.2 others + 0.00015 relu_k, from 10 networks" in write_table(table)
    assert read_table(write_table(table)) == table
