"""Pooling equals flax's, to second order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal
from second_orders import assert_equal, second_order

from dnas.kernels.pooling import avg_pool, max_pool

pytestmark = pytest.mark.usefixtures("float64")


CHANNELS = 2
SIZES = [(6, 4), (5, 7)]


def max_pool_by_flax(x, stride):
    return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool_by_flax(x, stride):
    return nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(max_pool, max_pool_by_flax), (avg_pool, avg_pool_by_flax)]
)
def test_pool_equals_flax_to_second_order(ours, theirs, stride, size):
    x = normal(0, 2, *size, CHANNELS)
    assert_equal(*(second_order(f, stride)(x) for f in (ours, theirs)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("function", [max_pool, avg_pool])
def test_pool_under_vmap_equals_one_by_one(function, stride):
    x = normal(0, 3, 2, 6, 4, CHANNELS)

    alone = second_order(function, stride)
    assert_equal(
        jax.jit(jax.vmap(alone))(x), jax.tree.map(lambda *arrays: jnp.stack(arrays), *map(alone, x))
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_of_max_pool_with_only_the_cotangent_mapped(stride):
    x = normal(0, 2, 6, 4, CHANNELS)
    y, pullback = jax.vjp(lambda x: max_pool(x, stride), x)
    cotangents = normal(1, 3, *y.shape)
    mapped = jax.vmap(pullback)(cotangents)[0]
    np.testing.assert_allclose(mapped, jnp.stack([pullback(g)[0] for g in cotangents]), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("function", [max_pool, avg_pool])
def test_pool_gradient_equals_finite_differences(function, stride):
    x = normal(0, 1, 5, 6, CHANNELS)
    cotangent, direction = normal(1, *function(x, stride).shape), normal(2, *x.shape)
    value = jax.jit(lambda x: jnp.vdot(function(x, stride), cotangent))
    difference = (value(x + 1e-6 * direction) - value(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(jax.grad(value)(x), direction), difference, rtol=1e-7)


def test_max_pool_gradient_goes_to_the_first_of_equal_maxima():
    gradient = jax.grad(lambda x: max_pool(x, 2).sum())(jnp.ones((1, 4, 4, 1)))
    # Windows start at row and column -1, whose padding never wins: the first pixel inside takes
    #   all.
    assert gradient[0, :, :, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_breaks_ties_as_a_loop_that_takes_the_first(stride):
    x = np.asarray(jax.random.randint(jax.random.key(0), (5, 6), 0, 2), np.float64)
    expected = np.zeros_like(x)
    for i in range(0, 5, stride):
        for j in range(0, 6, stride):
            window = [
                (r, c)
                for r in (i - 1, i, i + 1)
                for c in (j - 1, j, j + 1)
                if 0 <= r < 5 and 0 <= c < 6
            ]
            expected[max(window, key=lambda place: x[place])] += 1  # max keeps the first
    gradient = jax.grad(lambda x: max_pool(x, stride).sum())(jnp.asarray(x)[None, :, :, None])
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_avg_pool_does_not_count_the_padding():
    np.testing.assert_allclose(
        avg_pool(jnp.ones((1, 5, 4, 1)), 2), jnp.ones((1, 3, 2, 1)), atol=1e-12
    )


def test_max_pool_of_negative_numbers_ignores_the_padding():
    np.testing.assert_array_equal(max_pool(-jnp.ones((1, 4, 4, 1)), 2), -jnp.ones((1, 2, 2, 1)))
