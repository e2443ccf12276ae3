"""The weighted sum of images."""

import chex
import jax
import jax.numpy as jnp
from floats import normal

from dnas.kernels.sums import weighted_sum

CHANNELS, BATCH, SIZE = 4, 2, 6


def images(seed=1, *lead):
    return normal(seed, *lead, BATCH, SIZE, SIZE, CHANNELS)


def test_weighted_sum_equals_einsum_with_its_gradients():
    arrays, weights = images(5, 3), jnp.array([0.5, -1.0, 2.0])
    direction = images(6)

    def ours(weights, arrays):
        return jnp.vdot(jnp.tanh(weighted_sum(weights, list(arrays))), direction)

    def theirs(weights, arrays):
        return jnp.vdot(jnp.tanh(jnp.einsum("n,nbhwc->bhwc", weights, arrays)), direction)

    found, expected = (jax.value_and_grad(f, (0, 1))(weights, arrays) for f in (ours, theirs))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
