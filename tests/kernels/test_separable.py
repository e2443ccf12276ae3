"""Separable convolutions that run as one: the same as one by one, in fewer products and sums."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest
from floats import enable_x64, filled, normal

from dnas.cells import search_norms
from dnas.cells.mixed_op import MixedOp
from dnas.cells.norms import BatchNorm

SIZE = 6, 4
AFFINE = search_norms()._replace(conv=partial(BatchNorm, running=False))
CASES = {
    "darts": (
        "none",
        "max_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    "interleaved": ("dil_conv_3x3", "sep_conv_3x3", "dil_conv_5x5", "nor_conv_1x1", "sep_conv_5x5"),
    "twice": ("sep_conv_5x5", "sep_conv_3x3"),
    "once": ("dil_conv_3x3", "dil_conv_5x5"),
    "alone": ("skip_connect", "sep_conv_3x3"),
}


def pair(ops, stride, norms=None, **kwargs):
    return [
        MixedOp(ops, 4, stride, norms or search_norms(), together=one, **kwargs)
        for one in (False, True)
    ]


def gradients(op, weights, mix, x):
    def loss(weights, mix, x):
        return jnp.sin(op(weights, mix, x)).sum()

    return jax.value_and_grad(loss, (0, 1, 2))(weights, mix, x)


def to_second_order(op, *args):
    directions = jax.tree.map(lambda array: normal(3, *array.shape), args)
    return jax.jvp(partial(gradients, op), args, directions)


@pytest.mark.parametrize(
    ("case", "stride", "all_of"),
    [
        ("darts", 2, gradients),
        ("interleaved", 1, to_second_order),
        ("twice", 1, gradients),
        ("once", 2, gradients),
        ("alone", 1, gradients),
    ],
    ids=["darts", "interleaved", "twice", "once", "alone"],
)
def test_together_is_one_by_one_gradients_included(case, stride, all_of):
    with enable_x64(True):
        x, mix = normal(1, 3, *SIZE, 4), normal(2, len(CASES[case]))
        ops = pair(CASES[case], stride)
        weights = filled(ops[0], x)
        found = [jax.jit(all_of, static_argnums=0)(op, weights, mix, x) for op in ops]
        chex.assert_trees_all_close(*found, rtol=1e-8, atol=1e-8)


def products(function, *args):
    """How many products with 1x1 kernels there are: those whose results are images, or stacks of
    them."""

    def count(jaxpr):
        inner = [
            getattr(value, "jaxpr", value)
            for equation in jaxpr.eqns
            for value in equation.params.values()
        ]
        own = [
            e
            for e in jaxpr.eqns
            if e.primitive.name == "dot_general" and e.outvars[0].aval.shape[-3:-1] == SIZE
        ]
        return len(own) + sum(count(one) for one in inner if hasattr(one, "eqns"))

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def test_their_products_are_one_for_each_half_and_under_a_map_over_edges_as_well():
    x, mix = jax.random.normal(jax.random.key(1), (2, *SIZE, 4)), jnp.ones(7)
    apart, together = pair(CASES["darts"], 1)
    weights = filled(apart, x)
    edges = jax.tree.map(lambda array: jnp.stack([array] * 3), weights)

    def of_edge(op, weights):
        return op(weights, mix, x)

    def of_edges(op, weights):
        return jax.vmap(partial(of_edge, op))(weights)

    for function, own in ((of_edge, weights), (of_edges, edges)):
        assert [products(partial(function, op), own) for op in (apart, together)] == [6, 2]
        found = [jax.jit(function, static_argnums=0)(op, own) for op in (apart, together)]
        chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kwargs", [{"partial_channels": 2}, {"norms": AFFINE}], ids=["partial", "norms"]
)
def test_partial_channels_and_norms_with_parameters_are_as_one_by_one(kwargs):
    x, mix = jax.random.normal(jax.random.key(1), (3, 4, 4, 4)), jnp.arange(7.0)
    apart, together = pair(CASES["darts"], 1, **kwargs)
    variables = filled(apart, x)
    found = [op(variables, mix, x) for op in (apart, together)]
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-4)


def test_a_mix_for_each_sample_is_as_one_by_one():
    x, mix = (
        jax.random.normal(jax.random.key(1), (3, 4, 4, 4)),
        jax.random.normal(jax.random.key(3), (7, 3)),
    )
    apart, together = pair(CASES["darts"], 1)
    chex.assert_trees_all_close(
        *(op(filled(apart, x), mix, x) for op in (apart, together)), rtol=1e-5, atol=1e-5
    )
