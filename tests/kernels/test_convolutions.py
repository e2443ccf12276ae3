"""Convolutions equal XLA's, to second order."""

import itertools
import re
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal
from jax import lax
from second_orders import assert_equal, gradients, second_order

from dnas.kernels.convolutions import conv3x3, depthwise_conv, pointwise_product
from dnas.kernels.pooling import avg_pool, max_pool
from dnas.kernels.sums import channel_sum

pytestmark = pytest.mark.usefixtures("float64")


CHANNELS = 2
SIZES = [(6, 4), (5, 7)]
# side, stride, dilation, size: with stride 1 all sizes are alike.
CONVS = [(3, 2, *rest) for rest in itertools.product((1, 2), SIZES)] + [
    (3, 1, 1, (5, 7)),
    (3, 1, 2, (6, 4)),
]
CONVS += [(5, 1, 2, (6, 4)), (5, 2, 1, (5, 7))]
CONVS += [(7, 1, 1, (5, 7)), (7, 2, 1, (6, 4))]


def conv_by_xla(x, kernel, stride, dilation):
    sides = [(dilation * (kernel.shape[0] // 2),) * 2] * 2
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        sides,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=names,
        feature_group_count=x.shape[-1],
    )


OFTEN = [
    own if number % 2 else pytest.param(*own, marks=pytest.mark.slow)
    for number, own in enumerate(CONVS)
]


@pytest.mark.parametrize(("side", "stride", "dilation", "size"), OFTEN, ids=str)
def test_depthwise_conv_equals_xla_to_second_order(side, stride, dilation, size):
    x, kernel = normal(0, 2, *size, CHANNELS), normal(1, side, side, 1, CHANNELS)
    ours, theirs = (second_order(f, stride, dilation) for f in (depthwise_conv, conv_by_xla))
    assert_equal(ours(x, kernel), theirs(x, kernel))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_conv3x3_equals_xla_to_second_order(size):
    def by_xla(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, kernel = normal(0, 2, *size, CHANNELS), normal(1, 3, 3, CHANNELS, 3)
    assert_equal(second_order(conv3x3)(x, kernel), second_order(by_xla)(x, kernel))


@pytest.mark.parametrize(("side", "stride", "dilation"), [(3, 2, 2), (5, 1, 2)])
def test_relu_in_the_convolution_equals_the_relu_before_it_to_second_order(side, stride, dilation):
    x, kernel = normal(0, 2, 6, 4, CHANNELS), normal(1, side, side, 1, CHANNELS)
    ours = second_order(depthwise_conv, stride, dilation, True)
    theirs = jax.jit(
        lambda *args: gradients(lambda x, k: depthwise_conv(nn.relu(x), k, stride, dilation), *args)
    )
    assert_equal(ours(x, kernel), theirs(x, kernel))


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (6, 5), (2, 3, 5)])
def test_pointwise_product_equals_a_product_of_matrices_with_its_gradients(shape):
    x, kernel = (
        jax.random.normal(jax.random.key(0), shape),
        jax.random.normal(jax.random.key(1), (5, 7)),
    )
    direction = jax.random.normal(jax.random.key(2), (*shape[:-1], 7))

    def value_and_gradients(product):
        return jax.jit(
            jax.value_and_grad(
                lambda x, kernel: jnp.vdot(jnp.tanh(product(x, kernel)), direction), (0, 1)
            )
        )(x, kernel)

    chex.assert_trees_all_close(
        value_and_gradients(pointwise_product),
        value_and_gradients(jnp.matmul),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("side", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (3, 2, 2), (5, 1, 2)]
)
def test_a_wider_border_changes_neither_the_convolution_nor_its_gradients(side, stride, dilation):
    x, kernel = (
        jax.random.normal(jax.random.key(0), (2, 8, 6, 3)),
        jax.random.normal(jax.random.key(1), (side, side, 1, 3)),
    )

    def value_and_gradients(sides):
        def value(x, kernel):
            return jnp.sin(
                depthwise_conv(x, kernel, stride, dilation, relu=True, sides=sides)
            ).sum()

        return jax.jit(jax.value_and_grad(value, (0, 1)))(x, kernel)

    chex.assert_trees_all_close(
        value_and_gradients(5), value_and_gradients(None), rtol=1e-5, atol=1e-5
    )


def test_convolutions_that_ask_for_the_same_border_share_one_padded_image():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jnp.ones((3, 3, 1, 3))

    def both(x, sides):
        return depthwise_conv(x, kernel, relu=True, sides=sides) + depthwise_conv(
            x, 2 * kernel, dilation=2, relu=True, sides=2
        )

    def padded(sides):
        text = jax.jit(both, static_argnums=1).lower(x, sides).compile().as_text()
        return len(re.findall(r" pad\(", text))

    assert padded(2) == padded(1) - 1 == 1


def test_a_border_that_is_too_narrow_is_refused():
    with pytest.raises(ValueError, match="needs a border of 4 on every side, got sides=2"):
        depthwise_conv(jnp.ones((1, 8, 8, 2)), jnp.ones((5, 5, 1, 2)), dilation=2, sides=2)


def test_low_precision_is_summed_in_float32():
    x = jnp.ones((1, 32, 32, 1), jnp.bfloat16)  # in bfloat16 a sum of ones stays at 256
    assert channel_sum(x).dtype == jnp.float32
    assert channel_sum(x).tolist() == [1024.0]
    y = depthwise_conv(x, jnp.ones((3, 3, 1, 1), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    kernel_gradient = jax.grad(lambda kernel: depthwise_conv(x, kernel).astype(jnp.float32).sum())(
        jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    )
    assert kernel_gradient[1, 1, 0, 0] == 1024.0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "function",
    [max_pool, avg_pool, lambda x, s: depthwise_conv(x, jnp.ones((3, 3, 1, CHANNELS)), s)],
)
def test_kernel_without_jit_equals_itself_under_jit(function, stride):
    x = normal(0, 2, 6, 4, CHANNELS)
    np.testing.assert_allclose(
        function(x, stride), jax.jit(lambda x: function(x, stride))(x), atol=1e-12
    )


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)], ids=str)
def test_depthwise_conv_under_vmap_equals_one_by_one(axes, stride=2, dilation=2):
    x, kernel = normal(0, 3, 2, 6, 4, CHANNELS), normal(1, 3, 3, 3, 1, CHANNELS)
    args = [array if axis == 0 else array[0] for array, axis in zip((x, kernel), axes, strict=True)]

    alone = second_order(depthwise_conv, stride, dilation)
    mapped = jax.jit(jax.vmap(alone, axes))(*args)
    picked = [
        [arg[n] if axis == 0 else arg for arg, axis in zip(args, axes, strict=True)]
        for n in range(3)
    ]
    assert_equal(
        mapped, jax.tree.map(lambda *arrays: jnp.stack(arrays), *(alone(*pair) for pair in picked))
    )


@pytest.mark.parametrize(("side", "stride", "dilation"), [(3, 1, 2), (5, 2, 1)])
def test_depthwise_gradient_equals_finite_differences(side, stride, dilation):
    x, kernel = normal(0, 1, 5, 6, CHANNELS), normal(1, side, side, 1, CHANNELS)
    cotangent = normal(2, *depthwise_conv(x, kernel, stride, dilation).shape)
    value = jax.jit(lambda *args: jnp.vdot(depthwise_conv(*args, stride, dilation), cotangent))
    found = jax.grad(value, (0, 1))(x, kernel)
    for gradient, direction, moved in [
        (found[0], normal(3, *x.shape), lambda t, d: value(x + t * d, kernel)),
        (found[1], normal(4, *kernel.shape), lambda t, d: value(x, kernel + t * d)),
    ]:
        difference = (moved(1e-4, direction) - moved(-1e-4, direction)) / 2e-4
        np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=1e-8)


def test_kernels_keep_float32():
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.float32), jnp.ones((3, 3, 1, 2), jnp.float32)
    for y in (depthwise_conv(x, kernel), max_pool(x, 2), avg_pool(x, 2)):
        assert y.dtype == jnp.float32
    assert {
        g.dtype for g in jax.grad(lambda *args: depthwise_conv(*args).sum(), (0, 1))(x, kernel)
    } == {x.dtype}
    assert jax.grad(lambda x: max_pool(x, 2).sum())(x).dtype == jnp.float32


@pytest.mark.parametrize("batch", [8, 12, 40])
@pytest.mark.parametrize(
    ("function", "kernel"),
    [
        (lambda x, kernel: depthwise_conv(x, kernel, 2), (3, 3, 1, 4)),
        (lambda x, kernel: depthwise_conv(x, kernel, 1, 2, sides=5), (5, 5, 1, 4)),
        (pointwise_product, (4, 3)),
    ],
    ids=["strided", "dilated", "pointwise"],
)
def test_the_gradient_of_a_kernel_is_that_of_each_image_added_up(function, kernel, batch):
    x, kernel = normal(1, batch, 6, 5, 4), normal(2, *kernel)
    g = normal(3, *jax.eval_shape(function, x, kernel).shape)

    def gradient(x, g):
        return jax.vjp(partial(function, x), kernel)[1](g)[0]

    apart = sum(gradient(x[number : number + 1], g[number : number + 1]) for number in range(batch))
    np.testing.assert_allclose(jax.jit(gradient)(x, g), apart, rtol=1e-10, atol=1e-10)
