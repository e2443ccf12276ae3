"""RobustDARTS's spaces: edges with candidates of their own, and an op that is noise."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas.cells import search_norms
from dnas.cells.edge_ops import EdgeOps, stacked_edges
from dnas.selection import random_genotype

NAMES = ("s1", "s2", "s3", "s4")
# A stage of one cell, one of one and one of two.
SIZES = dict(channels=4, num_cells=4, num_classes=5)
KEY = jax.random.key(2)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


def compiled(function):
    """jit, compiled in a hurry."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def supernet(name):
    """(weights, apply) of one supernet, compiled once."""
    made = dnas.SPACES[name].supernet(**SIZES)
    return compiled(weights_of(made))(KEY, IMAGES), compiled(logits_of(made))


@pytest.mark.parametrize(
    "name", ["s1", "s4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("s2", "s3"))]
)
def test_supernet_at_a_one_hot_mix_equals_the_network_of_the_genotype(name):
    space, (weights, apply) = dnas.SPACES[name], supernet(name)
    genotype = random_genotype(KEY, space)
    network = space.network(genotype, **SIZES, norms=search_norms)
    variables = jax.eval_shape(network.init, KEY, IMAGES)
    # Every array must be inherited.
    variables = jax.tree.map(lambda array: jnp.full(array.shape, jnp.nan), variables)
    variables = dnas.inherit_weights(space, genotype, weights, variables)
    expected = apply(weights, dnas.one_hot_mix(space, genotype), IMAGES)
    logits = compiled(
        lambda variables: network.apply(variables, {}, IMAGES, key=KEY, train=True)[0].logits
    )(variables)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def random_mix(space, seed=0):
    return {
        kind: jax.random.uniform(jax.random.key(seed), spec.choices.allowed.shape)
        for kind, spec in space.cells.items()
    }


def test_what_an_edge_may_not_choose_changes_nothing():
    space, (weights, apply) = dnas.SPACES["s1"], supernet("s1")
    mix = random_mix(space)
    without = {
        kind: jnp.where(space.cells[kind].choices.allowed, rows, 0.0) for kind, rows in mix.items()
    }
    np.testing.assert_array_equal(apply(weights, mix, IMAGES), apply(weights, without, IMAGES))


@functools.cache
def loss_and_gradients(**more):
    space, (weights, _) = dnas.SPACES["s1"], supernet("s1")
    made = space.supernet(**SIZES, **more)

    def loss(weights, mix, images):
        return jax.nn.log_softmax(logits_of(made)(weights, mix, images))[:, 0].sum()

    return compiled(jax.value_and_grad(loss, (0, 1, 2)))(weights, random_mix(space), IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{"remat": False}, {"schedule": "waves"}, {"schedule": "unrolled"}], ids=str
)
def test_every_schedule_computes_the_same_supernet_where_edges_differ(more):
    chex.assert_trees_all_close(
        loss_and_gradients(**more), loss_and_gradients(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_a_sampled_supernet_of_s1_equals_the_weighted_one_at_a_one_hot_mix():
    space, (weights, apply) = dnas.SPACES["s1"], supernet("s1")
    sampled = compiled(logits_of(space.supernet(**SIZES, sampled=True)))
    mix = {
        kind: np.zeros(spec.choices.allowed.shape, np.float32) for kind, spec in space.cells.items()
    }
    for kind, spec in space.cells.items():
        for row, ops in enumerate(spec.edge_ops):
            mix[kind][row, spec.ops.index(ops[row % 2])] = 1.0
    np.testing.assert_allclose(
        sampled(weights, mix, IMAGES), apply(weights, mix, IMAGES), atol=1e-4
    )


def test_s1_has_two_candidates_an_edge_which_the_supernet_has_weights_for():
    space = dnas.SPACES["s1"]
    for spec in space.cells.values():
        assert {len(ops) for ops in spec.edge_ops} == {2} and spec.choices.allowed.sum() == 28
    counts = {
        kind: {op: spec.choices.allowed[:, n].sum() for n, op in enumerate(spec.ops)}
        for kind, spec in space.cells.items()
    }
    stacks = supernet("s1")[0]["cell_0"]["cell"]["edges_stride_1"]
    assert {op: jax.tree.leaves(tree)[0].shape[0] for op, tree in stacks.items()} == {
        op: count for op, count in counts["normal"].items() if "conv" in op
    }


def test_filled_up_weights_are_those_of_each_edge_and_zeros():
    space = dnas.SPACES["s1"]
    spec, candidates = (
        space.cells["normal"],
        EdgeOps(tuple(space.cells.values()), search_norms(), 1, False),
    )
    stored = supernet("s1")[0]["cell_0"]["cell"]["edges_stride_1"]
    numbers, filled = candidates.stack(spec, 4, 1, stacked_edges(spec, 1)[1], stored)
    allowed = spec.choices.allowed[[spec.edges.index(edge) for edge in stacked_edges(spec, 1)[1]]]
    for op, tree in filled.items():
        kernel = jax.tree.leaves(tree)[0]
        assert (
            (abs(kernel).max(tuple(range(1, kernel.ndim))) > 0) == allowed[:, spec.ops.index(op)]
        ).all()
    # Edges 0 -> 2, 0 -> 3.
    assert [candidates.sets[n] for n in numbers[:2]] == [
        spec.edge_ops[0],
        spec.edge_ops[2],
    ]


def test_noise_gives_nothing_a_gradient():
    space = dnas.SPACES["s4"]
    mix = {kind: jnp.eye(2)[jnp.zeros(14, int)] for kind in space.cells}  # all noise
    weights, apply = supernet("s4")
    gradient = compiled(
        jax.grad(lambda images: logits_of(space.supernet(**SIZES))(weights, mix, images).sum())
    )(IMAGES)
    assert not gradient.any()
    assert np.isfinite(apply(weights, mix, IMAGES)).all()


def test_an_unknown_space_names_the_four():
    with pytest.raises(ValueError, match="'s5'; choose from: s1, s2, s3, s4"):
        dnas.robust_darts_space("s5")


def test_weights_of_a_reduction_whose_strided_edges_have_none_are_inherited():
    own = (("max_pool_3x3",),) * 4 + (("sep_conv_3x3",),)
    space = dnas.darts_space(
        name="few",
        ops=("max_pool_3x3", "sep_conv_3x3"),
        num_nodes=2,
        edge_ops={"normal": own, "reduce": own},
    )
    sizes = dict(channels=4, num_cells=1, num_classes=5)
    genotype = dnas.argmax_edges()(space, {kind: np.ones((5, 2)) for kind in space.cells})
    weights = weights_of(space.supernet(**sizes))(KEY, IMAGES)
    network = space.network(genotype, **sizes)
    variables = dnas.inherit_weights(
        space, genotype, weights, network.init(jax.random.key(9), IMAGES)
    )
    stored = weights["cell_0"]["cell"]["edges_stride_1"]["sep_conv_3x3"]["Dense_0"]["kernel"]
    found = variables["params"]["cell_0"]["cell"]["edge_2_3"]["sep_conv_3x3"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(found, stored[0])


@pytest.mark.parametrize("kinds", [("normal",), ("normal", "reduce", "other")])
def test_edge_ops_are_given_for_both_kinds_of_cell(kinds):
    with pytest.raises(ValueError, match="given for the cells normal, reduce"):
        dnas.darts_space(
            ops=("skip_connect", "noise"), edge_ops={kind: (("noise",),) * 14 for kind in kinds}
        )


@pytest.mark.parametrize("shape", [(28, 28, 1), (48, 64, 3), (96, 96, 3)], ids=str)
@pytest.mark.parametrize("name", ["s1", "s4"])
def test_images_of_other_shapes_have_logits(name, shape):
    space, pictures = dnas.SPACES[name], jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    made = space.supernet(channels=4, num_cells=3, num_classes=7)
    weights = jax.eval_shape(weights_of(made), KEY, pictures)
    assert jax.eval_shape(logits_of(made), weights, random_mix(space), pictures).shape == (2, 7)
