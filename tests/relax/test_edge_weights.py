"""Edge normalisation of PC-DARTS around any relaxation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.choices import Choices
from dnas.relax import (
    dirichlet,
    edge_weights,
    gumbel_softmax,
    per_sample,
    sigmoid,
    simplex_edge_weights,
    softmax,
)

OPS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
EDGES = jnp.asarray([0.5, -1.0, 2.0, 0.3])
ARCH = {"ops": OPS, "edges": EDGES}


def test_mix_is_the_product_of_two_softmaxes(mix_of, choices):
    expected = np.array(jax.nn.softmax(OPS))
    for group in map(list, choices.groups):
        expected[group] *= np.asarray(jax.nn.softmax(EDGES[jnp.asarray(group)]))[:, None]
    np.testing.assert_allclose(mix_of(edge_weights(), ARCH), expected, rtol=1e-5)
    np.testing.assert_allclose(edge_weights().read(ARCH, choices), expected, rtol=1e-5)


def test_equal_beta_makes_the_mean_over_edges_of_what_darts_sums(mix_of):
    mix = mix_of(edge_weights(), ARCH | {"edges": jnp.full(4, 3.0)})
    np.testing.assert_allclose(mix, mix_of(softmax(), OPS) / 2, rtol=1e-5)


def test_weights_do_not_sum_to_one_in_a_relaxation_whose_rows_do_not(mix_of):
    rows = mix_of(sigmoid(), OPS)
    np.testing.assert_allclose(
        mix_of(edge_weights(sigmoid()), ARCH).sum(1) / rows.sum(1),
        [0.8175745, 0.1824255, 0.8455347, 0.1544653],
        rtol=1e-5,
    )


def test_draws_are_those_of_the_relaxation_at_the_same_key(mix_of):
    ratio = mix_of(edge_weights(gumbel_softmax()), ARCH, seed=5) / mix_of(
        gumbel_softmax(), OPS, seed=5
    )
    np.testing.assert_allclose(ratio, ratio[:, :1] + jnp.zeros((1, 3)), rtol=1e-5)


def test_an_edge_without_ops_takes_no_part(mix_of, choices):
    arch = {"ops": OPS.at[0].set(-1e9), "edges": EDGES}
    mix = mix_of(edge_weights(), arch)
    np.testing.assert_allclose(mix[1:].sum(1), [1.0, *jax.nn.softmax(EDGES[2:])], rtol=1e-5)
    gradient = jax.grad(lambda arch: mix_of(edge_weights(), arch)[1, 0])(arch)
    np.testing.assert_allclose(gradient["edges"], 0, atol=1e-6)


def test_a_mix_for_each_image_is_weighted_as_well(mix_of):
    mix = mix_of(edge_weights(per_sample(dirichlet(), 5)), ARCH)
    np.testing.assert_allclose(
        mix.sum(1), mix_of(edge_weights(), ARCH).sum(1)[:, None] + jnp.zeros((1, 5)), rtol=1e-5
    )


def test_init_draws_beta_at_its_scale_beside_the_arch_of_the_relaxation(choices):
    arch = edge_weights(softmax(init_scale=2.0), init_scale=0.0).init(jax.random.key(0), choices)
    assert (
        set(arch) == {"ops", "edges"}
        and arch["ops"].shape == (4, 3)
        and arch["edges"].shape == (4,)
    )
    assert jnp.abs(arch["ops"]).max() > 0.5 and (arch["edges"] == 0).all()
    assert 0 < jnp.abs(edge_weights().init(jax.random.key(0), choices)["edges"]).max() < 1e-2


def test_edge_weights_of_edge_weights_are_refused(choices):
    with pytest.raises(ValueError, match="has edge weights already"):
        edge_weights(edge_weights()).init(jax.random.key(0), choices)


def test_where_no_rows_compete_the_mix_is_that_of_the_relaxation(mix_of):
    alone = Choices(("a", "b"), ("x", "y", "z"))
    arch = edge_weights().init(jax.random.key(0), alone)
    assert set(arch) == {"ops"}
    np.testing.assert_array_equal(
        mix_of(edge_weights(), arch, choices=alone), mix_of(softmax(), arch, choices=alone)
    )


# Weights that lie on the simplex themselves, those of GAEA: edges 0 and 1 enter one node, 2 and 3
# another.
ROWS = jax.nn.softmax(OPS)
SHARES = jnp.asarray([0.25, 0.75, 0.9, 0.1])
ON_SIMPLEX = {"ops": ROWS, "edges": SHARES}


def test_on_the_simplex_the_mix_is_the_product_and_its_gradient_that_of_a_product(mix_of, choices):
    relaxation = simplex_edge_weights()
    np.testing.assert_allclose(mix_of(relaxation, ON_SIMPLEX), ROWS * SHARES[:, None], rtol=1e-6)
    gradient = jax.grad(lambda arch: (OPS * mix_of(relaxation, arch)).sum())(ON_SIMPLEX)
    np.testing.assert_allclose(gradient["edges"], (OPS * ROWS).sum(1), rtol=1e-5)
    np.testing.assert_allclose(gradient["ops"], OPS * SHARES[:, None], rtol=1e-5)
    np.testing.assert_allclose(relaxation.read(ON_SIMPLEX, choices), ROWS * SHARES[:, None])


def test_on_the_simplex_the_edges_of_a_node_start_alike(choices):
    arch = simplex_edge_weights().init(jax.random.key(0), choices)
    np.testing.assert_allclose(arch["edges"], 1 / 2)
    np.testing.assert_allclose(arch["ops"], 1 / 3, rtol=1e-6)


def test_on_the_simplex_an_edge_without_ops_leaves_its_share_to_the_others(mix_of):
    mix = mix_of(simplex_edge_weights(), ON_SIMPLEX | {"ops": ROWS.at[0].set(-1e9)})
    np.testing.assert_allclose(mix.sum(1), [0.0, 1.0, 0.9, 0.1], rtol=1e-5)
    none = mix_of(simplex_edge_weights(), ON_SIMPLEX | {"ops": ROWS.at[:2].set(-1e9)})
    np.testing.assert_allclose(none.sum(1), [0.0, 0.0, 0.9, 0.1], rtol=1e-5)


def test_where_no_rows_compete_there_are_no_weights_on_the_simplex():
    alone = Choices(("a", "b", "c"), tuple("0123"))
    arch = simplex_edge_weights(softmax()).init(jax.random.key(0), alone)
    assert set(arch) == {"ops"}
