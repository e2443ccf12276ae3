"""Convolutions, pooling and channel sums as XLA compiles them well, with their own gradients.

On a CPU, XLA runs grouped convolutions and window reductions many times slower than a plain loop over the taps of the
filter, and its automatic gradient of such a loop pads every tap to full size. Here each gradient is again one loop over
taps. Each is differentiable as often as needed in reverse mode: the convolution is bilinear, so that the gradients of its
gradients are the same three functions.

Inside a fence only `lax` is used: a `jnp` function that is itself jitted, such as `jnp.pad` or `jnp.where`, would inherit
the fence and become a call of its own, which nothing fuses with.
"""

from collections.abc import Callable
from functools import partial, wraps

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from dnas.base import Array


def fence(function: Callable, static: tuple[int, ...] = ()) -> Callable:
    """Returns the function as a call that XLA does not inline.

    Otherwise XLA:CPU merges the taps of several ops into one loop that it cannot vectorise;
    `lax.optimization_barrier` is dropped before fusion and does not prevent it. The call keeps the function's name, by
    which `dnas.hw_loss.counts` recognises it.
    """

    @wraps(function)
    def inside(*args):
        with set_xla_metadata(inlineable="true"):  # what is called in here is not fenced again
            return function(*args)

    jitted = jax.jit(inside, static_argnums=static)

    @wraps(function)
    def call(*args):
        with set_xla_metadata(inlineable="false"):
            return jitted(*args)

    return call


def wide(dtype) -> jnp.dtype:
    """The type in which sums over many numbers are kept: float32, or the type itself if it is wider."""
    return jnp.promote_types(dtype, jnp.float32)


def channel_sum(x: Array) -> Array:
    """Returns the sums [C] of x [..., C] over all axes but the last, in float32 or wider.

    On a CPU as a product with a row of ones: XLA's own reduction over the leading axes is one thread that does not
    vectorise, four times slower and more. Elsewhere reductions are fast, and a product might round to fewer bits.
    """
    rows = x.reshape(-1, x.shape[-1])
    if jax.default_backend() != "cpu":
        return rows.sum(0, dtype=wide(x.dtype))
    return lax.dot_general(
        jnp.ones((1, len(rows)), x.dtype), rows, (((1,), (0,)), ((), ())), preferred_element_type=wide(x.dtype)
    )[0]


def _slices(padded: Array, kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> list[Array]:
    """The k * k shifted views [B, h, w, C] of a padded image, row by row; `size` is (h, w)."""
    batch, _, _, channels = padded.shape
    height, width = (size[0] - 1) * stride + 1, (size[1] - 1) * stride + 1
    starts = [(i * dilation, j * dilation) for i in range(kernel) for j in range(kernel)]
    return [
        lax.slice(padded, (0, i, j, 0), (batch, i + height, j + width, channels), (1, stride, stride, 1)) for i, j in starts
    ]


def _pad(x: Array, sides: int, value: float = 0.0) -> Array:
    return lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (sides, sides, 0), (sides, sides, 0), (0, 0, 0)))


def _out_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _dilate(g: Array, size: tuple[int, int], stride: int, value: float = 0.0) -> Array:
    """Undoes a stride: spreads g [B, h, w, C] to [B, H, W, C] with `value` in between."""
    if stride == 1:
        return g
    spread = [(0, full - ((part - 1) * stride + 1), stride - 1) for full, part in zip(size, g.shape[1:3], strict=True)]
    return lax.pad(g, jnp.asarray(value, g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))


def _relu(x: Array, relu: bool) -> Array:
    return lax.max(x, jnp.zeros((), x.dtype)) if relu else x


def _where_positive(x: Array, y: Array, relu: bool) -> Array:
    return lax.select(x > 0, y, jnp.zeros_like(y)) if relu else y


def _taps(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    side, kind = kernel.shape[0], wide(x.dtype)
    views = _slices(_pad(x, dilation * (side // 2)), side, stride, dilation, _out_size(x.shape[1:3], stride))
    weights = kernel.astype(kind).reshape(side * side, -1)
    return sum(view.astype(kind) * weight for view, weight in zip(views, weights, strict=True)).astype(x.dtype)


def depthwise_forward(x, kernel, stride, dilation, relu):
    return _taps(_relu(x, relu), kernel, stride, dilation)


def depthwise_input_gradient(x, g, kernel, stride, dilation, relu):
    return _where_positive(x, _taps(_dilate(g, x.shape[1:3], stride), kernel[::-1, ::-1], 1, dilation), relu)


def depthwise_kernel_gradient(x, g, side, stride, dilation, relu):
    # One variadic reduction reads x and g once; separate sums, one a tap, read them once each and take twice as long.
    kind = wide(x.dtype)
    views = _slices(_pad(_relu(x, relu), dilation * (side // 2)), side, stride, dilation, g.shape[1:3])
    products = tuple(view.astype(kind) * g.astype(kind) for view in views)
    zeros = tuple(jnp.zeros((), kind) for _ in products)
    sums = lax.reduce(products, zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), (0, 1, 2))
    return lax.concatenate([row[None] for row in sums], 0).reshape(side, side, 1, -1).astype(x.dtype)


_forward = fence(depthwise_forward, (2, 3, 4))
_input_gradient = fence(depthwise_input_gradient, (3, 4, 5))
_kernel_gradient = fence(depthwise_kernel_gradient, (2, 3, 4, 5))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise_conv(x: Array, kernel: Array, stride: int = 1, dilation: int = 1, relu: bool = False) -> Array:
    """Returns the depthwise convolution [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C] with kernel [k, k, 1, C].

    k is odd; x is padded with zeros by dilation * (k // 2) on every side. With `relu` negative numbers of x count as
    zero: the ReLU in front of every depthwise convolution of the family costs nothing where the image is padded anyway.
    """
    return _forward(x, kernel, stride, dilation, relu)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _conv_input(x, g, kernel, stride, dilation, relu):
    """The gradient of x; of x itself only the size counts, and with `relu` the signs."""
    return _input_gradient(x, g, kernel, stride, dilation, relu)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _conv_kernel(x, g, side, stride, dilation, relu):
    return _kernel_gradient(x, g, side, stride, dilation, relu)


depthwise_conv.defvjp(
    lambda x, kernel, *static: (_forward(x, kernel, *static), (x, kernel)),
    lambda stride, dilation, relu, saved, g: (
        _conv_input(saved[0], g, saved[1], stride, dilation, relu),
        _conv_kernel(saved[0], g, saved[1].shape[0], stride, dilation, relu),
    ),
)


def _conv_input_bwd(stride, dilation, relu, saved, h):
    x, g, kernel = saved
    h = _where_positive(x, h, relu)
    return (
        jnp.zeros_like(x),
        depthwise_conv(h, kernel, stride, dilation, False),
        _conv_kernel(h, g, kernel.shape[0], stride, dilation, False),
    )


_conv_input.defvjp(lambda x, g, kernel, *static: (_input_gradient(x, g, kernel, *static), (x, g, kernel)), _conv_input_bwd)
_conv_kernel.defvjp(
    lambda x, g, *static: (_kernel_gradient(x, g, *static), (x, g)),
    lambda side, stride, dilation, relu, saved, k: (
        _conv_input(saved[0], saved[1], k, stride, dilation, relu),
        depthwise_conv(saved[0], k, stride, dilation, relu),
    ),
)


def conv_forward(x, kernel):
    # Products with three taps of a row at a time: three for each row of the padded image, of which shifted sums are the result.
    batch, height, width, channels = x.shape
    rows, last = _row_taps(x), kernel.shape[-1]
    matrix = lax.transpose(kernel, (1, 2, 0, 3)).reshape(3 * channels, 3 * last)
    products = lax.dot(rows.reshape(-1, 3 * channels), matrix, preferred_element_type=wide(x.dtype))
    products = products.reshape(batch, height + 2, width, 3 * last)
    parts = [lax.slice(products, (0, i, 0, i * last), (batch, i + height, width, (i + 1) * last)) for i in range(3)]
    return sum(parts).astype(x.dtype)


def conv_kernel_gradient(x, g):
    height, channels = x.shape[1], x.shape[-1]
    rows, flat = _row_taps(x), g.reshape(-1, g.shape[-1])
    views = [lax.slice_in_dim(rows, i, i + height, axis=1).reshape(-1, 3 * channels) for i in range(3)]
    found = [lax.dot_general(view, flat, (((0,), (0,)), ((), ())), preferred_element_type=wide(x.dtype)) for view in views]
    return lax.concatenate([part[None] for part in found], 0).reshape(3, 3, channels, -1).astype(x.dtype)


def _row_taps(x: Array) -> Array:
    """[B, H + 2, W, 3C]: of each row of the padded image the pixel to the left, the pixel itself and the one to the right."""
    batch, height, width, channels = x.shape
    padded = _pad(x, 1)
    return lax.concatenate([lax.slice(padded, (0, 0, j, 0), (batch, height + 2, j + width, channels)) for j in range(3)], 3)


_conv_forward, _conv_kernel_gradient = fence(conv_forward), fence(conv_kernel_gradient)


@jax.custom_vjp
def conv3x3(x: Array, kernel: Array) -> Array:
    """Returns the convolution [B, H, W, D] of x [B, H, W, C], padded by one pixel of zeros, with kernel [3, 3, C, D].

    XLA:CPU has a fast convolution, but not for the gradients inside a loop: there they take twenty times as long as these.
    """
    return _conv_forward(x, kernel)


@jax.custom_vjp
def _dense_kernel(x: Array, g: Array) -> Array:
    """The gradient of the kernel [3, 3, C, D]; bilinear as the convolution is."""
    return _conv_kernel_gradient(x, g)


def _transposed(kernel: Array) -> Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


conv3x3.defvjp(
    lambda x, kernel: (_conv_forward(x, kernel), (x, kernel)),
    lambda saved, g: (conv3x3(g, _transposed(saved[1])), _dense_kernel(saved[0], g)),
)
_dense_kernel.defvjp(
    lambda x, g: (_conv_kernel_gradient(x, g), (x, g)),
    lambda saved, k: (conv3x3(saved[1], _transposed(k)), conv3x3(saved[0], k)),
)


def max_pool_forward(x, stride):
    views = _slices(_pad(x, 1, -jnp.inf), 3, stride, 1, _out_size(x.shape[1:3], stride))
    best = views[0]
    for view in views[1:]:
        best = lax.max(best, view)
    return best


def max_pool_winner(x, best, stride):
    """The number 0..8 of the tap that holds the maximum; the first of equal ones, as PyTorch takes it.

    A loop of its own that reads the maxima: XLA does not fuse one that carries the best and its number from tap to tap.
    """
    no_tap = jnp.full(best.shape, 9, jnp.int8)
    winner = no_tap
    for number, view in enumerate(_slices(_pad(x, 1, -jnp.inf), 3, stride, 1, best.shape[1:3])):
        winner = lax.min(winner, lax.select(view == best, jnp.full(best.shape, number, jnp.int8), no_tap))
    return winner


def max_pool_gradient(winner, g, stride, size):
    """Sends g back to the winners: position p gets g from the output whose tap t looked at p and won."""
    g = _pad(_dilate(g, size, stride), 1)
    winner = _pad(_dilate(winner, size, stride, 9), 1, 9)  # gaps and padding hold no winner: 9 is no tap
    pairs = zip(_slices(winner, 3, 1, 1, size), _slices(g, 3, 1, 1, size), strict=True)
    return sum(lax.select(tap == 8 - number, view, jnp.zeros_like(view)) for number, (tap, view) in enumerate(pairs))


def max_pool_pick(winner, x, stride):
    """Reads x [B, H, W, C] at the winners."""
    views = _slices(_pad(x, 1), 3, stride, 1, winner.shape[1:3])
    return sum(lax.select(winner == number, view, jnp.zeros_like(view)) for number, view in enumerate(views))


_pool_forward = fence(max_pool_forward, (1,))
_pool_winner = fence(max_pool_winner, (2,))
_pool_gradient = fence(max_pool_gradient, (2, 3))
_pool_pick = fence(max_pool_pick, (2,))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: Array, stride: int = 1) -> Array:
    """Returns the 3x3 maxima [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C]; the gradient goes to the first maximum."""
    return _pool_forward(x, stride)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _unpool(winner, g, stride, size):
    return _pool_gradient(winner, g, stride, size)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pick(winner, x, stride):
    return _pool_pick(winner, x, stride)


def _max_pool_fwd(x, stride):
    best = _pool_forward(x, stride)
    return best, (_pool_winner(x, best, stride), jnp.zeros((0, *x.shape[1:3])))  # the empty array carries the size


max_pool.defvjp(_max_pool_fwd, lambda stride, saved, g: (_unpool(saved[0], g, stride, saved[1].shape[1:]),))
_unpool.defvjp(
    lambda winner, g, stride, size: (_pool_gradient(winner, g, stride, size), winner),
    lambda stride, size, winner, h: (np.zeros(winner.shape, jax.dtypes.float0), _pick(winner, h, stride)),
)
_pick.defvjp(
    lambda winner, x, stride: (_pool_pick(winner, x, stride), (winner, jnp.zeros((0, *x.shape[1:3])))),
    lambda stride, saved, g: (
        np.zeros(saved[0].shape, jax.dtypes.float0),
        _unpool(saved[0], g, stride, saved[1].shape[1:]),
    ),
)


def sum_pool_forward(x, stride):
    return sum(_slices(_pad(x, 1), 3, stride, 1, _out_size(x.shape[1:3], stride)))


def sum_pool_gradient(g, stride, size):
    return sum(_slices(_pad(_dilate(g, size, stride), 1), 3, 1, 1, size))


_sum_forward = fence(sum_pool_forward, (1,))
_sum_gradient = fence(sum_pool_gradient, (1, 2))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _sum_pool(x, stride, size):
    return _sum_forward(x, stride)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _spread(g, stride, size):
    return _sum_gradient(g, stride, size)


# Each is linear, and the other's transpose.
_sum_pool.defvjp(
    lambda x, stride, size: (_sum_forward(x, stride), None), lambda stride, size, _, g: (_spread(g, stride, size),)
)
_spread.defvjp(
    lambda g, stride, size: (_sum_gradient(g, stride, size), None),
    lambda stride, size, _, x: (_sum_pool(x, stride, size),),
)


def avg_pool(x: Array, stride: int = 1) -> Array:
    """Returns the 3x3 means [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C], each over the pixels inside the image."""
    height, width = x.shape[1:3]
    inside = np.pad(np.ones((height, width)), 1)
    count = sum(inside[i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3))
    return _sum_pool(x, stride, (height, width)) / jnp.asarray(count[..., None], x.dtype)
