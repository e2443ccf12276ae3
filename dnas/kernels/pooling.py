"""Pooling as XLA compiles it well: loops over the taps of a window, and so are all gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array
from dnas.kernels.backend import written
from dnas.kernels.kernel import Pooling, fence, multilinear, opaque
from dnas.kernels.taps import dilate, larger, out_size, pad, slices, smaller, total


def max_pool_forward(x, stride, window=3):
    before = (window - 1) // 2
    views = slices(pad(x, before, -jnp.inf), window, stride, 1, out_size(x.shape[1:3], stride))
    best = views[0]
    for view in views[1:]:
        best = lax.max(best, view)
    return best


def max_pool_winner(x, best, stride, window):
    """The number from 0 of the tap that holds the maximum; the first of equal ones, as PyTorch
    takes it.

    A loop of its own that reads the maxima: XLA does not fuse one that carries the best and its
      number from tap to tap.
    """
    no_tap = lax.full(best.shape, 9, jnp.int8)
    winner = no_tap
    padded = pad(x, (window - 1) // 2, -jnp.inf)
    for number, view in enumerate(slices(padded, window, stride, 1, best.shape[1:3])):
        winner = lax.min(
            winner, lax.select(lax.eq(view, best), lax.full(best.shape, number, jnp.int8), no_tap)
        )
    return winner


def max_pool_gradient(g, winner, *, stride, size, window):
    """Sends g back to the winners: position p gets g from the output whose tap t looked at p and
    won."""
    before, last = window // 2, window**2 - 1
    g = pad(dilate(g, size, stride), before)
    # Gaps and padding hold no winner: 9 is no tap.
    winner = pad(dilate(winner, size, stride, 9), before, 9)
    pairs = zip(slices(winner, window, 1, 1, size), slices(g, window, 1, 1, size), strict=True)
    zeros = lax.full_like(g, 0, shape=(g.shape[0], *size, g.shape[3]))
    return total(
        [
            lax.select(_is(tap, last - number), view, zeros)
            for number, (tap, view) in enumerate(pairs)
        ]
    )


def max_pool_pick(x, winner, *, stride, size, window):
    """Reads x [B, H, W, C] at the winners."""
    del size
    views = slices(pad(x, (window - 1) // 2), window, stride, 1, winner.shape[1:3])
    zeros = lax.full_like(x, 0, shape=winner.shape)
    return total(
        [lax.select(_is(winner, number), view, zeros) for number, view in enumerate(views)]
    )


def _is(taps: Array, number: int) -> Array:
    return lax.eq(taps, lax.full_like(taps, number))


_pool_forward = opaque(
    max_pool_forward, standard=lambda count, *, stride, window: Pooling("max", window, stride)
)
_pool_winner = fence(max_pool_winner)
_of_pick, _of_unpool = {}, {}
_pick = multilinear(max_pool_pick, _of_pick, lambda x, winner, **rest: winner.shape)
_unpool = multilinear(max_pool_gradient, _of_unpool, larger)
_of_pick[0], _of_unpool[0] = _unpool, _pick


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def max_pool(x: Array, stride: int = 1, window: int = 3) -> Array:
    """Returns the maxima [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C]; the gradient goes to the
    first maximum.

    The window is 3x3, padded on every side, or 2x2 with a stride of 2, which divides height and
    width.
    """
    return written(_pool_forward(written(x), stride=stride, window=window))


@max_pool.defjvp
def _max_pool_jvp(stride, window, primals, tangents):
    (x,), (tangent,) = primals, tangents
    best = max_pool(x, stride, window)
    winner = _pool_winner(*lax.stop_gradient((x, best)), stride=stride, window=window)
    return best, _pick(tangent, winner, stride=stride, size=x.shape[1:3], window=window)


def mean_pool_forward(x, *, stride, size):
    sums = total(slices(pad(x, 1), 3, stride, 1, out_size(size, stride)))
    return lax.div(sums, _pixels_inside(size, stride, sums))


def mean_pool_gradient(g, *, stride, size):
    g = lax.div(g, _pixels_inside(size, stride, g))
    return total(slices(pad(dilate(g, size, stride), 1), 3, 1, 1, size))


def _pixels_inside(size: tuple[int, int], stride: int, like: Array) -> Array:
    """How many pixels of an image of this size each 3x3 window holds, in the shape [B, h, w, C] of
    `like`."""
    height, width = size
    inside = np.pad(np.ones(size), 1)
    count = sum(
        inside[i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    )
    return lax.broadcast_in_dim(np.asarray(count, like.dtype), like.shape, (1, 2))


_of_mean_pool, _of_spread = {}, {}
_mean_pool = multilinear(
    mean_pool_forward,
    _of_mean_pool,
    smaller,
    standard=lambda count, *, stride, size: Pooling("mean", 3, stride),
)
_spread = multilinear(mean_pool_gradient, _of_spread, larger)
_of_mean_pool[0], _of_spread[0] = _spread, _mean_pool


def avg_pool(x: Array, stride: int = 1) -> Array:
    """Returns the 3x3 means [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C], each over the pixels
    inside the image."""
    return _mean_pool(x, stride=stride, size=x.shape[1:3])
