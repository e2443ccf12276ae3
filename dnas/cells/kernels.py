"""Depthwise convolution and pooling as sums over shifted slices, with their own gradients.

On a CPU, XLA runs grouped convolutions and window reductions many times slower than a plain loop over the taps of the
filter, and its automatic gradient of such a loop pads every tap to full size. Here each gradient is again one loop over
taps. Each is differentiable as often as needed in reverse mode: the convolution is bilinear, so that the gradients of its
gradients are the same three functions.
"""

from collections.abc import Callable
from functools import partial, wraps

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from dnas.base import Array


def fence(function: Callable, static: tuple[int, ...]) -> Callable:
    """Returns the function as a call that XLA does not inline.

    Otherwise XLA:CPU merges the taps of several ops into one loop that it cannot vectorise;
    `lax.optimization_barrier` is dropped before fusion and does not prevent it. The call keeps the function's name, by
    which `dnas.hw_loss.counts` recognises it.
    """
    jitted = jax.jit(function, static_argnums=static)

    @wraps(function)
    def call(*args):
        with set_xla_metadata(inlineable="false"):
            return jitted(*args)

    return call


def _slices(padded: Array, kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> list[Array]:
    """The k * k shifted views [B, h, w, C] of a padded image, row by row; `size` is (h, w)."""
    batch, _, _, channels = padded.shape
    height, width = (size[0] - 1) * stride + 1, (size[1] - 1) * stride + 1
    starts = [(i * dilation, j * dilation) for i in range(kernel) for j in range(kernel)]
    return [
        lax.slice(padded, (0, i, j, 0), (batch, i + height, j + width, channels), (1, stride, stride, 1)) for i, j in starts
    ]


def _pad(x: Array, sides: int, value: float = 0.0) -> Array:
    return jnp.pad(x, ((0, 0), (sides, sides), (sides, sides), (0, 0)), constant_values=value)


def _out_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _dilate(g: Array, size: tuple[int, int], stride: int, value: float = 0.0) -> Array:
    """Undoes a stride: spreads g [B, h, w, C] to [B, H, W, C] with `value` in between."""
    if stride == 1:
        return g
    spread = [(0, full - ((part - 1) * stride + 1), stride - 1) for full, part in zip(size, g.shape[1:3], strict=True)]
    return lax.pad(g, jnp.asarray(value, g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))


def _taps(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    side = kernel.shape[0]
    views = _slices(_pad(x, dilation * (side // 2)), side, stride, dilation, _out_size(x.shape[1:3], stride))
    return sum(view * tap for view, tap in zip(views, kernel.reshape(side * side, -1), strict=True))


def depthwise_forward(x, kernel, stride, dilation):
    return _taps(x, kernel, stride, dilation)


def depthwise_input_gradient(g, kernel, stride, dilation, size):
    return _taps(_dilate(g, size, stride), kernel[::-1, ::-1], 1, dilation)


def depthwise_kernel_gradient(x, g, side, stride, dilation):
    # One variadic reduction reads x and g once; separate sums, one a tap, read them once each and take twice as long.
    views = _slices(_pad(x, dilation * (side // 2)), side, stride, dilation, g.shape[1:3])
    products = tuple(view * g for view in views)
    zeros = tuple(jnp.zeros((), g.dtype) for _ in products)
    sums = lax.reduce(products, zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), (0, 1, 2))
    return jnp.stack(sums).reshape(side, side, 1, -1)


_forward = fence(depthwise_forward, (2, 3))
_input_gradient = fence(depthwise_input_gradient, (2, 3, 4))
_kernel_gradient = fence(depthwise_kernel_gradient, (2, 3, 4))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(x: Array, kernel: Array, stride: int = 1, dilation: int = 1) -> Array:
    """Returns the depthwise convolution [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C] with kernel [k, k, 1, C].

    k is odd; x is padded with zeros by dilation * (k // 2) on every side.
    """
    return _forward(x, kernel, stride, dilation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_input(g, kernel, stride, dilation, size):
    return _input_gradient(g, kernel, stride, dilation, size)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_kernel(x, g, side, stride, dilation):
    return _kernel_gradient(x, g, side, stride, dilation)


depthwise_conv.defvjp(
    lambda x, kernel, stride, dilation: (_forward(x, kernel, stride, dilation), (x, kernel)),
    lambda stride, dilation, saved, g: (
        _conv_input(g, saved[1], stride, dilation, saved[0].shape[1:3]),
        _conv_kernel(saved[0], g, saved[1].shape[0], stride, dilation),
    ),
)
_conv_input.defvjp(
    lambda g, kernel, stride, dilation, size: (_input_gradient(g, kernel, stride, dilation, size), (g, kernel)),
    lambda stride, dilation, size, saved, h: (
        depthwise_conv(h, saved[1], stride, dilation),
        _conv_kernel(h, saved[0], saved[1].shape[0], stride, dilation),
    ),
)
_conv_kernel.defvjp(
    lambda x, g, side, stride, dilation: (_kernel_gradient(x, g, side, stride, dilation), (x, g)),
    lambda side, stride, dilation, saved, k: (
        _conv_input(saved[1], k, stride, dilation, saved[0].shape[1:3]),
        depthwise_conv(saved[0], k, stride, dilation),
    ),
)


def max_pool_forward(x, stride):
    """The maximum and the number 0..8 of the tap that holds it; the first of equal ones, as PyTorch takes it."""
    views = _slices(_pad(x, 1, -jnp.inf), 3, stride, 1, _out_size(x.shape[1:3], stride))
    best, winner = views[0], jnp.zeros(views[0].shape, jnp.int8)
    for number, view in enumerate(views[1:], start=1):
        winner = jnp.where(view > best, jnp.int8(number), winner)
        best = jnp.maximum(best, view)
    return best, winner


def max_pool_gradient(winner, g, stride, size):
    """Sends g back to the winners: position p gets g from the output whose tap t looked at p and won."""
    g = _pad(_dilate(g, size, stride), 1)
    # A gap of the dilation, or the padding, holds no winner: 9 is no tap.
    winner = jnp.pad(_dilate(winner, size, stride, 9), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=9)
    pairs = zip(_slices(winner, 3, 1, 1, size), _slices(g, 3, 1, 1, size), strict=True)
    return sum(jnp.where(tap == 8 - number, view, 0.0) for number, (tap, view) in enumerate(pairs))


def max_pool_pick(winner, x, stride):
    """Reads x [B, H, W, C] at the winners."""
    views = _slices(_pad(x, 1), 3, stride, 1, winner.shape[1:3])
    return sum(jnp.where(winner == number, view, 0.0) for number, view in enumerate(views))


_pool_forward = fence(max_pool_forward, (1,))
_pool_gradient = fence(max_pool_gradient, (2, 3))
_pool_pick = fence(max_pool_pick, (2,))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x: Array, stride: int = 1) -> Array:
    """Returns the 3x3 maxima [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C]; the gradient goes to the first maximum."""
    return _pool_forward(x, stride)[0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _unpool(winner, g, stride, size):
    return _pool_gradient(winner, g, stride, size)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pick(winner, x, stride):
    return _pool_pick(winner, x, stride)


def _max_pool_fwd(x, stride):
    best, winner = _pool_forward(x, stride)
    return best, (winner, jnp.zeros((0, *x.shape[1:3])))  # the empty array carries the size


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
