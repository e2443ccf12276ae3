"""Max-W of sharpDARTS."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.relax import Relaxation, dirichlet, edge_weights, max_w, per_sample, softmax

ARCH = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
UPSTREAM = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
IDENTITY = Relaxation(init=None, sample=lambda key, arch, choices, step: arch["ops"])


def test_strongest_op_has_weight_one_and_the_others_what_they_lack(mix_of):
    mix, p = mix_of(max_w(), ARCH), mix_of(softmax(), ARCH)
    np.testing.assert_array_equal(mix.max(1), 1)
    np.testing.assert_allclose(1 - mix, p.max(1, keepdims=True) - p, atol=1e-6)


def gradient_of_p(detach, mix_of):
    p = mix_of(softmax(), ARCH)
    return jax.grad(lambda p: (UPSTREAM * mix_of(max_w(IDENTITY, detach=detach), p)).sum())(p), p


def test_gradient_with_the_maximum_detached_is_the_one_of_the_mix(mix_of):
    gradient, _ = gradient_of_p(True, mix_of)
    np.testing.assert_allclose(gradient, UPSTREAM, rtol=1e-6)


def test_gradient_of_the_strongest_op_is_minus_the_sum_over_the_others(mix_of):
    gradient, p = gradient_of_p(False, mix_of)
    strongest = jax.nn.one_hot(p.argmax(1), 3)
    np.testing.assert_allclose(
        gradient, UPSTREAM - strongest * UPSTREAM.sum(1, keepdims=True), atol=1e-6
    )


def test_dropped_ops_stay_without_weight(mix_of):
    mix = mix_of(max_w(), ARCH.at[:, 1].set(-1e9))
    np.testing.assert_array_equal(mix[:, 1], 0)
    np.testing.assert_array_equal(mix.max(1), 1)
    three = mix_of(max_w(per_sample(dirichlet(), 5)), ARCH.at[:, 1].set(-1e9))
    assert three.shape == (4, 3, 5) and (three[:, 1] == 0).all() and (three.max(1) == 1).all()


def test_genotypes_are_read_from_what_it_is_made_of(mix_of, choices):
    np.testing.assert_array_equal(max_w().read({"ops": ARCH}, choices), mix_of(softmax(), ARCH))
    arch = edge_weights(max_w(dirichlet())).init(jax.random.key(0), choices)
    np.testing.assert_array_equal(
        edge_weights(max_w(dirichlet())).read(arch, choices),
        edge_weights(dirichlet()).read(arch, choices),
    )
