"""Cells of mixed ops: whatever loop runs them, a mixed op on every edge."""

import functools
import itertools
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64, filled, normal

from dnas.cells import OPS, search_norms
from dnas.cells.edge_ops import EdgeOps, stacked_edges
from dnas.cells.init import init_variables
from dnas.cells.mixed_cell import MixedCell, run_chain
from dnas.cells.norms import BatchNorm
from dnas.graph import CellSpec

CHANNELS, BATCH, SIZE = 4, 2, 6
NAMES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def images(seed=1, *lead):
    return normal(seed, *lead, BATCH, SIZE, SIZE, CHANNELS)


SPEC = CellSpec(2, 3, ((0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (2, 4), (3, 4)), NAMES, (4, 2, 3))


def cell(stride, **more):
    return MixedCell(SPEC, CHANNELS, stride, search_norms(), **more)


def inputs(seed=1):
    return tuple(images(seed, 2))


MIX = jax.random.uniform(jax.random.key(2), (len(SPEC.edges), len(NAMES)))


def by_hand(weights, inputs, mix, stride):
    """The cell as the paper writes it: a mixed op on every edge, with automatic gradients of the
    sum."""
    states = dict(enumerate(inputs))
    for node in SPEC.nodes:
        total = 0.0
        for group, edges in stacked_edges(SPEC, stride).items():
            for place, (source, target) in enumerate(edges):
                if target == node:
                    own = jax.tree.map(
                        lambda array, place=place: array[place], weights[f"edges_stride_{group}"]
                    )
                    row = mix[SPEC.edges.index((source, target))]
                    for number, name in enumerate(NAMES):
                        op = OPS[name](channels=CHANNELS, stride=group, norms=search_norms())
                        total += row[number] * op.apply(
                            {"params": own.get(name, {})}, states[source]
                        )
        states[node] = total
    return jnp.concatenate([states[node] for node in SPEC.concat], axis=-1)


def value_and_gradients(function, *args):
    direction = normal(7, *jax.eval_shape(function, *args).shape)

    def value(*args):
        y = function(*args)
        return jnp.vdot(y, direction), y

    return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(*args)


@functools.cache
def weights_and_results_by_hand(stride):
    weights = filled(cell(stride), inputs(), MIX)["params"]
    return weights, value_and_gradients(
        lambda w, xs, m: by_hand(w, xs, m, stride), weights, inputs(), MIX
    )


@pytest.mark.parametrize(
    ("stride", "how"),
    [
        pytest.param(1, ("edges", True), marks=pytest.mark.slow),
        (2, ("edges", True)),
        (2, ("edges", False)),
        (2, ("waves", True)),
        (2, ("unrolled", True)),
        pytest.param(1, ("edges", False), marks=pytest.mark.slow),
        pytest.param(1, ("waves", True), marks=pytest.mark.slow),
        pytest.param(1, ("waves", False), marks=pytest.mark.slow),
        pytest.param(2, ("waves", False), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_cell_equals_a_mixed_op_on_every_edge_gradients_included(stride, how):
    module = cell(stride, schedule=how[0], remat=how[1])
    weights, theirs = weights_and_results_by_hand(stride)
    ours = value_and_gradients(
        lambda w, xs, m: module.apply({"params": w}, xs, m), weights, inputs(), MIX
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_float64_gradients_of_a_cell_equal_those_by_hand_to_1e_8_and_so_do_second_ones():
    with enable_x64(True):
        module = cell(2)
        wide = jax.tree.map(
            lambda array: jnp.asarray(array, jnp.float64),
            (filled(module, inputs(), MIX)["params"], inputs(), MIX),
        )

        def second(function):
            def first(weights, xs, mix):
                return jax.grad(lambda w: jnp.sin(function(w, xs, mix)).sum())(weights)

            def along(weights, xs, mix):
                return sum(
                    jnp.vdot(g, jnp.cos(3.0 * w))
                    for g, w in zip(
                        *map(jax.tree.leaves, (first(weights, xs, mix), weights)), strict=True
                    )
                )

            return jax.jit(lambda *args: (first(*args), jax.grad(along, 2)(*args)))(*wide)

        ours = second(lambda w, xs, m: module.apply({"params": w}, xs, m))
        theirs = second(lambda w, xs, m: by_hand(w, xs, m, 2))
        assert jax.tree.leaves(ours)[0].dtype == jnp.float64
        chex.assert_trees_all_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_edges_of_a_cell_start_with_different_weights():
    class Fixed(MixedCell):
        @nn.compact
        def __call__(self, xs):
            return super().__call__((xs, xs), MIX)

    for kernel in jax.tree.leaves(
        init_variables(Fixed(SPEC, CHANNELS, 1, search_norms()), jax.random.key(0), images())
    ):
        rows = kernel.reshape(len(SPEC.edges), -1)
        assert len({row.tobytes() for row in np.asarray(rows)}) == len(SPEC.edges)


@pytest.mark.parametrize("schedule", ["edges", "waves"])
def test_cell_with_a_mix_of_each_sample_equals_one_mix_where_all_are_equal(schedule):
    spec = CellSpec(
        2, 2, ((0, 2), (1, 2), (0, 3), (2, 3)), ("none", "skip_connect", "max_pool_3x3"), (2, 3)
    )
    cell = MixedCell(spec, CHANNELS, 1, search_norms(), schedule=schedule)
    mix, inputs = jax.random.uniform(jax.random.key(2), (4, 3)), [images(1), images(2)]
    expected = cell.apply({}, inputs, mix)
    np.testing.assert_allclose(
        cell.apply({}, inputs, jnp.tile(mix[..., None], BATCH)), expected, atol=1e-5
    )


def one_hot(numbers):
    return jnp.eye(len(NAMES))[jnp.asarray(numbers)]


SAMPLED = list(
    itertools.product([(0, 1, 2, 3, 3, 1, 2), (3, 3, 1, 0, 3, 3, 3)], [1, 2], [True, False], [1, 2])
)


@pytest.mark.parametrize(
    ("numbers", "stride", "remat", "parts"),
    # Each setting of two of them is in every run.
    [
        own if (own[1] + own[2] + own[3]) % 2 else pytest.param(*own, marks=pytest.mark.slow)
        for own in SAMPLED
    ],
    ids=str,
)
def test_sampled_cell_equals_the_weighted_one_at_one_hot_gradients_included(
    numbers, stride, remat, parts
):
    row = one_hot(numbers)
    sampled, weighted = (
        cell(stride, sampled=s, remat=remat, schedule="edges", partial_channels=parts)
        for s in (True, False)
    )
    weights = filled(weighted, inputs(), row)["params"]
    ours, theirs = (
        value_and_gradients(
            lambda w, xs, m, own=own: own.apply({"params": w}, xs, m), weights, inputs(), row
        )
        for own in (sampled, weighted)
    )
    (value, y), (of_weights, of_xs, of_mix) = ours
    (expected, expected_y), (their_weights, their_xs, their_mix) = theirs
    chex.assert_trees_all_close(
        (value, y, of_xs), (expected, expected_y, their_xs), rtol=1e-4, atol=1e-3
    )
    chex.assert_trees_all_close(of_weights, their_weights, rtol=1e-4, atol=1e-3)
    if parts == 1:  # otherwise what passes by has a gradient of all entries, drawn or not
        their_mix = their_mix * row
        np.testing.assert_allclose(of_mix, their_mix, rtol=1e-4, atol=1e-3)


def test_sampled_cell_runs_the_drawn_ops_only():
    row = one_hot([1] * len(SPEC.edges))
    sampled = cell(1, sampled=True, schedule="edges")
    weights = jax.tree.map(lambda array: array * jnp.nan, filled(cell(1), inputs(), row)["params"])
    y, gradient = jax.jit(
        jax.value_and_grad(lambda xs: sampled.apply({"params": weights}, xs, row).sum())
    )(inputs())
    chex.assert_tree_all_finite((y, gradient))


def test_sampled_cell_refuses_a_mix_of_each_sample():
    sampled = cell(1, sampled=True, schedule="edges")
    weights = filled(cell(1), inputs(), MIX)["params"]
    with pytest.raises(ValueError, match="one for the whole batch.*sampled=False"):
        sampled.apply({"params": weights}, inputs(), jnp.ones((*MIX.shape, BATCH)))


@pytest.mark.parametrize(
    ("sampled", "remat"),
    [
        (False, True),
        pytest.param(False, False, marks=pytest.mark.slow),
        (True, True),
        (True, False),
    ],
)
def test_a_chain_of_cells_in_one_loop_equals_the_cells_one_by_one_gradients_included(
    sampled, remat
):
    spec = CellSpec(1, 2, ((0, 1), (0, 2), (1, 2)), NAMES, (2,))
    module = MixedCell(spec, CHANNELS, 1, search_norms(), sampled=sampled, remat=remat, parent=None)
    mix = one_hot([3, 1, 3]) if sampled else MIX[:3]
    weights = [filled(module, (images(),), mix, seed=seed)["params"] for seed in range(3)]

    def one_by_one(weights, x, mix):
        for own in weights:
            x = module.apply({"params": own}, (x,), mix)
        return x

    ours = value_and_gradients(lambda w, x, m: run_chain(module, w, x, m), weights, images(), mix)
    chex.assert_trees_all_close(
        ours, value_and_gradients(one_by_one, weights, images(), mix), rtol=1e-4, atol=1e-3
    )


def test_second_gradients_of_a_sampled_cell_equal_those_of_the_weighted_one():
    row = one_hot([0, 1, 2, 3, 3, 1, 2])
    weights = filled(cell(1), inputs(), row)["params"]

    def second(module):
        def gradient(weights):
            return jax.grad(lambda w: jnp.sin(module.apply({"params": w}, inputs(), row)).sum())(
                weights
            )

        return jax.jit(lambda w: jax.jvp(gradient, (w,), (jax.tree.map(jnp.cos, w),)))(weights)

    ours, theirs = (second(cell(1, sampled=sampled, schedule="edges")) for sampled in (True, False))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-3, atol=1e-2)


def test_pooling_is_what_edges_share_unless_its_norm_has_parameters():
    plain, full = search_norms(), search_norms()._replace(pool=partial(BatchNorm, running=False))
    runs = [EdgeOps((SPEC,), norms, 1, False).runner(CHANNELS, 1) for norms in (plain, full)]
    shared = [list(run.prepare(images())[1].outputs) for run in runs]
    assert shared == [["max_pool_3x3"], []]
