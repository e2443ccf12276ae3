"""Sums over channels and pixels, whatever form they take on the device at hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal

from dnas.kernels.sums import channel_sum, channel_sum_of, inner_product

pytestmark = pytest.mark.usefixtures("float64")


def test_channel_sum_equals_a_sum_over_all_axes_but_the_last():
    x = normal(0, 2, 3, 4, 5)
    np.testing.assert_allclose(channel_sum(x), x.sum((0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(jax.vmap(channel_sum)(x), x.sum((1, 2)), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (7, 3, 2, 5), (48, 2, 2, 3), (1, 4, 4, 2), (6, 5)])
def test_channel_sum_of_a_function_equals_the_sum_of_its_values(shape):
    x, y = (jax.random.normal(jax.random.key(n), shape) for n in (0, 1))
    found = jax.jit(partial(channel_sum_of, lambda x, y: x * jnp.exp(y)))(x, y)
    np.testing.assert_allclose(
        found, (x * jnp.exp(y)).sum(tuple(range(len(shape) - 1))), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(40, 6, 5, 4), (12, 3), (7, 1, 1, 2)])
def test_sums_of_channels_are_those_of_numpy(shape):
    x = normal(1, *shape)
    np.testing.assert_allclose(
        channel_sum(x), np.asarray(x).reshape(-1, shape[-1]).sum(0), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("shape", [(8, 3, 3, 5), (3, 2, 5), (7,)])
def test_the_inner_product_is_that_of_float32_whatever_the_types(shape):
    x, y = (jax.random.normal(jax.random.key(seed), shape, jnp.float32) for seed in (1, 2))
    expected = np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64))
    np.testing.assert_allclose(inner_product(x, y), expected, rtol=1e-5)
    short = x.astype(jnp.bfloat16)
    for other in (y, y.astype(jnp.bfloat16)):
        found = inner_product(short, other)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(
            found, np.vdot(np.asarray(short, np.float64), np.asarray(other, np.float64)), rtol=1e-5
        )
