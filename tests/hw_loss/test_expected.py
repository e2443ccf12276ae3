"""The expected cost: at a discrete mix that of the genotype, in between the expectation, with the
gradient of both."""

import contextlib
import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.hw_loss import (
    REFERENCE,
    Cost,
    CostTable,
    count_network,
    count_table,
    expected_cost,
    genotype_cost,
    load_table,
    table_names,
)
from dnas.parts import LayerParts, NetworkParts, Part
from dnas.relax import softmax
from dnas.selection import random_genotype
from dnas.space import SearchSpace, one_hot_mix

SIZES = dict(channels=4, num_cells=4, image_size=16)
MADE_UP = ("chain", "cells")


def random_table(layers, seed=0):
    random = np.random.default_rng(seed)
    metrics = ("latency", "energy", "peak_memory")
    rows = {
        (metric, part): Cost(float(random.gamma(2)))
        for metric in metrics
        for part in layers.distinct()
    }
    return CostTable("dice", "numpy", 1, "today", "random numbers", rows)


def chain_space(ops=("a", "b", "c"), length=4):
    """A layer-wise space: every layer runs one of its blocks, and the second has no c."""
    edge_ops = tuple(ops[:-1] if number == 1 else ops for number in range(length))
    spec = CellSpec(1, length, tuple((n, n + 1) for n in range(length)), ops, (length,), edge_ops)
    choices = tuple(
        tuple(Part(op, n + 1, n + 2, 8, 8) if op in edge_ops[n] else None for op in ops)
        for n in range(length)
    )
    return made_up("chain", "layers", spec, [choices])


def cell_space(ops=("none", "skip", "conv"), nodes=3):
    """A graph in which `none` may cut off nodes, as in NAS-Bench-201: one cell at two sizes."""
    edges = tuple((source, target) for target in range(1, nodes + 1) for source in range(target))
    spec = CellSpec(1, nodes, edges, ops, (nodes,))
    layers = [
        [[None if op == "none" else Part(op, 8, 8, size, size) for op in ops]] * len(edges)
        for size in (8, 4)
    ]
    return made_up("cells", "cell", spec, layers)


def made_up(name, kind, spec, layers, edges_per_node=None):
    fixed = (Part("stem", 3, 8, 8, 8), Part("head", 8, 10, 4, 4))
    cells = {kind: dataclasses.replace(spec, keep=edges_per_node)}
    parts = NetworkParts(cells, fixed, tuple(LayerParts(kind, choices) for choices in layers))
    return SearchSpace(name, cells, None, None, None, parts=lambda: parts)


IMAGES = [name for name, space in dnas.SPACES.items() if space.inputs == "images"]
SPACES = {**dnas.SPACES, "chain": chain_space(), "cells": cell_space()}


def sizes_of(name):
    """The sizes of a small network of a space: not every space has networks of four cells."""
    if name in MADE_UP:
        return {}
    if SPACES[name].inputs == "tokens":
        return {"channels": 4, "num_classes": 7}
    for num_cells in (4, 3, SPACES[name].num_cells):
        with contextlib.suppress(ValueError):
            SPACES[name].layers(**{**SIZES, "num_cells": num_cells})
            return {**SIZES, "num_cells": num_cells}
    raise ValueError(name)


def random_mix(space, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    mix = {}
    for kind, spec in space.cells.items():
        rows = np.where(
            spec.choices.allowed,
            np.exp(scale * random.normal(size=spec.choices.allowed.shape)),
            0.0,
        )
        mix[kind] = rows / rows.sum(axis=-1, keepdims=True)
    return mix


@pytest.mark.parametrize("metric", ["latency", "energy", "peak_memory"])
@pytest.mark.parametrize("name", SPACES)
def test_at_a_one_hot_mix_it_is_the_cost_of_the_genotype_exactly(name, metric):
    space, sizes = SPACES[name], sizes_of(name)
    layers = space.parts(**sizes)
    table = random_table(layers)
    for live in (None, "path", "output", "all"):
        cost = expected_cost(table, layers, metric=metric, live=live)
        for seed in range(4):
            genotype = random_genotype(jax.random.key(seed), space)
            mix = one_hot_mix(space, genotype)
            assert cost(mix) == genotype_cost(
                table, space, genotype, metric=metric, live=live, **sizes
            )
    assert float(jax.jit(cost)(mix)) == pytest.approx(cost(mix), rel=1e-6)


@pytest.mark.parametrize("name", IMAGES)
def test_the_counts_table_at_a_one_hot_mix_is_count_network(name):
    space, sizes = dnas.SPACES[name], sizes_of(name)
    table, layers = count_table(space, **sizes), space.parts(**sizes)
    genotype = random_genotype(jax.random.key(5), space)
    counts = count_network(space, genotype, **sizes)
    for metric in ("macs", "params"):
        assert expected_cost(table, layers, metric=metric)(one_hot_mix(space, genotype)) == getattr(
            counts, metric
        )


@pytest.mark.parametrize("live", ["path", "output", "all"])
def test_where_edges_are_independent_it_is_the_expectation_over_all_genotypes(live):
    space = cell_space()
    layers, mix = space.parts(), random_mix(space)
    table, spec = random_table(layers), space.cells["cell"]
    total = 0.0
    for ops in itertools.product(range(len(spec.ops)), repeat=len(spec.edges)):
        chosen = [(*edge, spec.ops[op]) for edge, op in zip(spec.edges, ops, strict=True)]
        probability = math.prod(mix["cell"][edge, op] for edge, op in enumerate(ops))
        genotype = Genotype("cells", {"cell": chosen}, {"cell": (3,)})
        total += probability * genotype_cost(table, space, genotype, metric="latency", live=live)
    assert expected_cost(table, layers, metric="latency", live=live)(mix) == pytest.approx(
        total, rel=1e-12
    )


def orders(strengths, k):
    """(edges drawn, probability) for every order of k draws without replacement."""
    for drawn in itertools.permutations(range(len(strengths)), min(k, len(strengths))):
        probability, left = 1.0, sum(strengths)
        for edge in drawn:
            probability *= strengths[edge] / left
            left -= strengths[edge]
        yield drawn, probability


@pytest.mark.parametrize("k", [1, 2, 3])
def test_where_nodes_keep_k_edges_it_is_the_expectation_over_their_draws(k):
    ops, nodes = ("none", "skip", "conv"), (2, 3, 4)
    spec = CellSpec(2, 3, tuple((s, t) for t in nodes for s in range(t)), ops, nodes)
    choices = [
        [None if op == "none" else Part(op, 8 + s, 8, t, t) for op in ops] for s, t in spec.edges
    ]
    space = made_up("kept", "cell", spec, [choices], edges_per_node=k)
    mix, layers = random_mix(space), space.parts()
    table, rows = random_table(layers), mix["cell"]
    costs = np.array(
        [[table.rows["latency", part].mean if part else 0.0 for part in row] for row in choices]
    )
    strengths = rows[:, 1:].sum(axis=-1)
    of_edge = (rows * costs).sum(axis=-1) / strengths
    total = sum(table.rows["latency", part].mean for part in layers.fixed)
    for node in nodes:
        own = spec.incoming(node)
        for drawn, probability in orders(strengths[list(own)], k):
            total += probability * sum(of_edge[own[place]] for place in drawn)
    assert expected_cost(table, layers, metric="latency")(mix) == pytest.approx(total, rel=1e-12)


def test_the_expectation_is_that_of_sampled_genotypes():
    space = dnas.darts_space(name="small", num_nodes=2)
    layers, mix = space.parts(**SIZES), random_mix(space, scale=2.0)
    table = random_table(layers)
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = [dnas.selection.sample_genotype(key, space, mix) for key in keys]
    costs = [genotype_cost(table, space, genotype, metric="latency", **SIZES) for genotype in drawn]
    error = np.std(costs) / len(costs) ** 0.5
    assert abs(np.mean(costs) - expected_cost(table, layers, metric="latency")(mix)) < 4 * error


def test_where_all_edges_are_there_it_is_linear_in_the_probabilities():
    space = chain_space()
    layers = space.parts()
    cost = expected_cost(random_table(layers), layers, metric="latency", kept_only=False)
    random = np.random.default_rng(3)
    for scale in (0.1, 1.0, 3.0):  # rows as they are need not sum to one
        rows = scale * random.random((4, 3))
        assert cost({"layers": rows}) == pytest.approx(
            cost.fixed + (rows * cost.if_run["layers"]).sum(), rel=1e-12
        )
    gradient = jax.jit(jax.grad(cost))({"layers": jnp.asarray(rows)})["layers"]
    np.testing.assert_allclose(gradient, cost.if_run["layers"], rtol=1e-6)
    np.testing.assert_allclose(cost.per_op({"layers": rows})["layers"], cost.if_run["layers"])


@pytest.mark.parametrize("name", ["cells", "darts", "nasbench201"])
def test_what_an_op_costs_at_a_mix_is_the_gradient_there(name):
    space, sizes = SPACES[name], sizes_of(name)
    layers, mix = space.parts(**sizes), random_mix(space, scale=0.3)
    cost = expected_cost(random_table(layers), layers, metric="latency")
    random = np.random.default_rng(2)
    slopes = cost.per_op(mix)
    for kind, choices in space.choices.items():
        for row, column in zip(*np.nonzero(choices.computes), strict=True):
            if random.random() > 0.2:
                continue
            ends = []
            for move in (1e-6, -1e-6):
                rows = mix[kind].copy()
                rows[row, column] += move
                ends.append(cost({**mix, kind: rows}))
            expected = (ends[0] - ends[1]) / 2e-6
            assert slopes[kind][row, column] == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_without_kept_only_it_is_the_sum_over_all_edges():
    space = dnas.SPACES["darts"]
    layers, mix = space.parts(**SIZES), random_mix(space, scale=0.1)
    cost = expected_cost(random_table(layers), layers, metric="latency", kept_only=False)
    total = cost.fixed + sum((mix[kind] * cost.if_run[kind]).sum() for kind in mix)
    assert cost(mix) == pytest.approx(total, rel=1e-12)
    genotype = random_genotype(jax.random.key(0), space)
    table = random_table(layers)
    assert cost(one_hot_mix(space, genotype)) == genotype_cost(
        table, space, genotype, metric="latency", **SIZES
    )


@pytest.mark.parametrize("metric", ["latency", "peak_memory"])
@pytest.mark.parametrize("kept_only", [True, False])
@pytest.mark.parametrize("name", ["darts", "chain", "cells"])
def test_the_gradient_is_that_of_finite_differences(name, kept_only, metric):
    space = SPACES[name]
    layers, mix = space.parts(**sizes_of(name)), random_mix(space, seed=1)
    cost = expected_cost(random_table(layers), layers, metric=metric, kept_only=kept_only)
    gradient = jax.jit(jax.grad(cost))(jax.tree.map(jnp.asarray, mix))
    random = np.random.default_rng(2)
    for _ in range(3):
        direction = {
            kind: random.normal(size=rows.shape) * space.cells[kind].choices.allowed
            for kind, rows in mix.items()
        }

        def along(step, direction=direction):
            return cost({kind: mix[kind] + step * direction[kind] for kind in mix})

        slope = (along(1e-6) - along(-1e-6)) / 2e-6
        found = sum(
            float((np.asarray(gradient[kind], float) * direction[kind]).sum()) for kind in mix
        )
        assert found == pytest.approx(slope, rel=2e-4, abs=1e-4)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("rows", ["one-hot", "zeros", "first op everywhere"])
def test_the_gradient_is_finite_at_the_corners(name, rows):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    cost = expected_cost(random_table(layers), layers, metric="latency")
    mix = one_hot_mix(space, random_genotype(jax.random.key(0), space))
    if rows != "one-hot":
        mix = {
            kind: jnp.zeros_like(own).at[:, 0].set(float(rows != "zeros"))
            for kind, own in mix.items()
        }
    value, gradient = jax.jit(jax.value_and_grad(cost))(mix)
    assert jnp.isfinite(value) and all(jnp.isfinite(own).all() for own in gradient.values())


def test_what_no_input_reaches_or_nothing_reads_costs_nothing():
    space = cell_space(nodes=3)
    layers = space.parts()
    table = random_table(layers)
    conv = sum(table.rows["latency", Part("conv", 8, 8, size, size)].mean for size in (8, 4))
    fixed = sum(table.rows["latency", part].mean for part in layers.fixed)

    def cost(live, *edges):
        ops = [(*edge, "conv" if edge in edges else "none") for edge in space.cells["cell"].edges]
        genotype = Genotype("cells", {"cell": ops}, {"cell": (3,)})
        own = genotype_cost(table, space, genotype, metric="latency", live=live)
        assert own == expected_cost(table, layers, metric="latency", live=live)(
            one_hot_mix(space, genotype)
        )
        return round((own - fixed) / conv, 9)

    assert cost("path", (0, 1), (1, 3)) == 2
    assert (
        cost("path", (0, 1), (2, 3)) == 0
        and cost("output", (0, 1), (2, 3)) == 1
        and cost("all", (0, 1), (2, 3)) == 2
    )
    assert cost("path", (0, 3), (0, 1)) == 1 and cost("output", (0, 3), (1, 2)) == 1


@pytest.mark.parametrize("name", SPACES)
def test_what_a_row_sums_to_does_not_matter(name):
    """Genotypes are drawn in proportion to weights; where edges compete, to those of all rows."""
    space = SPACES[name]
    layers, mix = space.parts(**sizes_of(name)), random_mix(space)
    cost = expected_cost(random_table(layers), layers, metric="latency")
    scaled = {}
    for kind, choices in space.choices.items():
        factors = np.full(len(mix[kind]), 3.7)
        if choices.keep is None:
            factors = np.random.default_rng(4).uniform(0.1, 8.0, len(mix[kind]))
        scaled[kind] = factors[:, None] * mix[kind]
    assert cost(scaled) == pytest.approx(cost(mix), rel=1e-12)


@pytest.mark.parametrize("name", ["darts", "chain", "cells"])
def test_where_rows_do_not_sum_to_one_the_gradient_is_that_of_finite_differences(name):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    cost = expected_cost(random_table(layers), layers, metric="latency")
    random = np.random.default_rng(5)
    mix = {
        kind: random.uniform(0.2, 0.9, own.shape) * own.allowed
        for kind, own in space.choices.items()
    }
    slopes = cost.per_op(mix)
    for kind, rows in mix.items():
        direction = random.normal(size=rows.shape) * space.choices[kind].allowed
        ends = [cost({**mix, kind: rows + move * direction}) for move in (1e-5, -1e-5)]
        expected = (ends[0] - ends[1]) / 2e-5
        assert (slopes[kind] * direction).sum() == pytest.approx(expected, rel=1e-6)


def test_an_edge_without_any_weight_is_one_that_has_been_dropped():
    space = cell_space(nodes=2)
    layers = space.parts()
    cost = expected_cost(random_table(layers), layers, metric="latency")
    mix = random_mix(space)["cell"]
    without, none = mix.copy(), mix.copy()
    without[0], none[0] = 0.0, [1.0, 0.0, 0.0]
    assert cost({"cell": without}) == pytest.approx(cost({"cell": none}), rel=1e-12)


def test_a_genotype_that_keeps_more_edges_than_usual_costs_what_all_of_them_cost():
    """As SNAS reads them: every edge has an op, where nodes of the space keep two."""
    space = dnas.SPACES["darts"]
    layers, table = space.parts(**SIZES), random_table(space.parts(**SIZES))
    genotype = dnas.argmax_edges()(space, random_mix(space))
    assert len(genotype.cells["normal"]) == 14
    cost = expected_cost(table, layers, metric="latency")
    found = cost.discrete(one_hot_mix(space, genotype))
    assert found == genotype_cost(table, space, genotype, metric="latency", **SIZES)


def test_the_order_of_candidates_does_not_matter():
    ops = ("none", "skip", "conv")
    space, turned = cell_space(ops), cell_space(ops[::-1])
    mix = random_mix(space)
    table = random_table(space.parts())
    costs = [expected_cost(table, own.parts(), metric="latency") for own in (space, turned)]
    assert costs[0](mix) == pytest.approx(costs[1]({"cell": mix["cell"][:, ::-1]}), rel=1e-12)


@pytest.mark.parametrize("name", ["darts", "cells", "chain"])
def test_it_works_under_vmap_and_from_logits(name):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    cost = expected_cost(random_table(layers), layers, metric="latency")
    mixes = [random_mix(space, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *rows: jnp.stack([jnp.asarray(own) for own in rows]), *mixes)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(cost))(stacked), [cost(mix) for mix in mixes], rtol=1e-5
    )


def test_it_is_an_arch_loss_that_draws_arch_to_the_cheapest_op():
    space = chain_space()
    layers, relaxation = space.parts(), softmax()
    choices = space.choices["layers"]
    cost = expected_cost(random_table(layers), layers, metric="latency")
    arch = {"layers": {"ops": jnp.where(choices.allowed, 0.0, -1e9)}}

    def loss(arch):
        return cost({"layers": relaxation.sample(jax.random.key(0), arch["layers"], choices, 0)})

    step = jax.jit(
        lambda arch: jax.tree.map(lambda own, slope: own - slope, arch, jax.grad(loss)(arch))
    )
    for _ in range(200):
        arch = step(arch)
    cheapest = np.where(choices.allowed, cost.if_run["layers"], np.inf).argmin(axis=-1)
    assert np.array_equal(arch["layers"]["ops"].argmax(axis=-1), cheapest)


def test_every_row_that_the_space_needs_and_the_table_lacks_is_named():
    space = dnas.SPACES["darts"]
    small, large = space.parts(**SIZES), space.parts(channels=4, num_cells=4, image_size=32)
    table = random_table(small)
    lacking = [part for part in large.distinct() if part not in small.distinct()]
    with pytest.raises(
        ValueError, match=f"lacks {len(lacking)} of {len(large.distinct())} parts"
    ) as caught:
        expected_cost(table, large, metric="latency")
    assert all(str(part) in str(caught.value) for part in lacking)


def test_interpolated_parts_are_named_in_the_result():
    space = dnas.SPACES["darts"]
    sides = {side: space.parts(channels=4, num_cells=4, image_size=side) for side in (16, 24, 32)}
    rows = {**random_table(sides[16]).rows, **random_table(sides[32]).rows}
    table = CostTable("dice", "numpy", 1, "today", "random", rows)
    cost = expected_cost(table, sides[24], metric="latency", interpolate=True)
    assert (
        set(cost.interpolated)
        == {part for part in sides[24].distinct() if ("latency", part) not in rows}
        != set()
    )
    assert expected_cost(table, sides[16], metric="latency", interpolate=True).interpolated == ()


def test_what_does_not_fit_is_refused():
    space = dnas.SPACES["darts"]
    layers = space.parts(**SIZES)
    table = random_table(layers)
    with pytest.raises(ValueError, match="live 'some' does not exist"):
        expected_cost(table, layers, metric="latency", live="some")
    with pytest.raises(ValueError, match=r"cell 'reduce' has shape \(0,\), expected \(14, 8\)"):
        expected_cost(table, layers, metric="latency")({"normal": np.zeros((14, 8))})
    genotype = dnas.PUBLISHED["DARTS_V2"]
    narrow = Genotype("darts", genotype.cells, {"normal": (4, 5)})
    with pytest.raises(ValueError, match=r"'normal' of the genotype concatenates \(4, 5\)"):
        genotype_cost(table, space, narrow, metric="latency", **SIZES)


SHIPPED_SIZES = {"c16": {"channels": 16, "num_cells": 8}}


@pytest.mark.parametrize("name", table_names())
def test_a_shipped_table_has_a_cost_for_every_network_of_its_space(name):
    table = load_table(name)
    space = dnas.SPACES[name.split("-")[1]]
    sizes = next((own for word, own in SHIPPED_SIZES.items() if f"-{word}-" in name), {})
    assert ("latency", REFERENCE) in table.rows and table.source.startswith(
        f"make table SPACE={space.name}"
    )
    cost = expected_cost(table, space.parts(**sizes))
    genotype = random_genotype(jax.random.key(0), space)
    assert (
        float(cost(one_hot_mix(space, genotype)))
        == genotype_cost(table, space, genotype, **sizes)
        > 0
    )
