"""The hand-written kernels against those of XLA: values, gradients, and gradients of gradients, in
float64."""

import functools
import itertools
import re
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dnas.kernels.convolutions import conv3x3, depthwise_conv, pointwise_product
from dnas.kernels.pooling import avg_pool, max_pool
from dnas.kernels.sums import channel_sum, channel_sum_of, inner_product

try:
    from jax import enable_x64
except ImportError:  # jax before 0.8
    from jax.experimental import enable_x64

CHANNELS = 2
SIZES = [(6, 4), (5, 7)]
# side, stride, dilation, size: with stride 1 all sizes are alike.
CONVS = [(3, 2, *rest) for rest in itertools.product((1, 2), SIZES)] + [
    (3, 1, 1, (5, 7)),
    (3, 1, 2, (6, 4)),
]
CONVS += [(5, 1, 2, (6, 4)), (5, 2, 1, (5, 7))]
CONVS += [(7, 1, 1, (5, 7)), (7, 2, 1, (6, 4))]


@pytest.fixture(autouse=True)
def float64():
    with enable_x64(True):
        yield


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


def max_pool_by_flax(x, stride):
    return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool_by_flax(x, stride):
    return nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


def gradients(function, *args):
    """(value, gradients, gradients of <gradients, directions>): reverse mode twice; and forward
    mode over reverse."""
    y = function(*args)
    cotangent = normal(90, *y.shape)
    directions = [normal(91 + number, *arg.shape) for number, arg in enumerate(args)]
    places = tuple(range(len(args)))

    def first(cotangent, *args):
        # A nonlinear function of y, so that the second order sees the cotangent change as well.
        return jax.grad(lambda *args: jnp.vdot(jnp.tanh(function(*args)), cotangent), places)(*args)

    def inner(cotangent, *args):
        return sum(jnp.vdot(g, d) for g, d in zip(first(cotangent, *args), directions, strict=True))

    twice = jax.grad(inner, (0, *(1 + place for place in places)))(cotangent, *args)
    forward = jax.jvp(lambda *args: first(cotangent, *args), args, tuple(directions))[1]
    return y, first(cotangent, *args), twice, forward


@functools.cache
def second_order(function, *static):
    """`gradients` of `function(*arrays, *static)`, compiled once for all tests that compare with
    it."""
    return jax.jit(lambda *arrays: gradients(lambda *arrays: function(*arrays, *static), *arrays))


def assert_equal(ours, theirs):
    assert jax.tree.leaves(ours)[0].dtype == jnp.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), ours, theirs)


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


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(max_pool, max_pool_by_flax), (avg_pool, avg_pool_by_flax)]
)
def test_pool_equals_flax_to_second_order(ours, theirs, stride, size):
    x = normal(0, 2, *size, CHANNELS)
    assert_equal(*(second_order(f, stride)(x) for f in (ours, theirs)))


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
