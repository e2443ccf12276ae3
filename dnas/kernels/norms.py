"""Norms over the batch, and weighted sums of normed images, with gradients of their own."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, add_up
from dnas.kernels.backend import on_cpu
from dnas.kernels.kernel import fence, opaque, with_vjp
from dnas.kernels.sums import channel_sum, channel_sum_of, inner_product, wide


def rows(values: Array, x: Array) -> Array:
    """Returns values [C] with as many axes as images x [..., C] have, as JAX's strict promotion of
    ranks wants them."""
    return lax.broadcast_to_rank(values, x.ndim)


def _moments(x, eps):
    size = x.size // x.shape[-1]
    if on_cpu():
        mean = channel_sum(x) / size
        var = channel_sum_of(lambda x: lax.square(x - rows(mean, x)), x) / size
    else:
        # Both sums in one pass over x, less the first pixel: that is about as far from the mean as
        # any, so that the variance is not what is left of two large numbers.
        pixel = lax.stop_gradient(x).reshape(-1, x.shape[-1])[0].astype(wide(x.dtype))
        shifted = (x.astype(wide(x.dtype)) - rows(pixel, x)).reshape(-1, x.shape[-1])
        nothing = jnp.zeros((), shifted.dtype)
        add = lambda a, b: (a[0] + b[0], a[1] + b[1])  # noqa: E731
        first, second = (
            total / size
            for total in lax.reduce((shifted, lax.square(shifted)), (nothing, nothing), add, (0,))
        )
        mean, var = pixel + first, second - lax.square(first)
    return mean, var, lax.rsqrt(var + eps)


def norm_forward(x, *, eps):
    mean, var, rate = _moments(x, eps)
    return ((x - rows(mean, x)) * rows(rate, x)).astype(x.dtype), mean, var, rate


def affine_norm_forward(x, scale, shift, *, eps):
    mean, var, rate = _moments(x, eps)
    gain = scale * rate
    y = x * rows(gain, x) + rows(shift - mean * gain, x)
    return y.astype(x.dtype), mean, var, rate


def norm_gradient(y, rate, dy):
    size = y.size // y.shape[-1]
    of_mean, of_rate = channel_sum(dy) / size, channel_sum_of(lax.mul, dy, y) / size
    return (rows(rate, y) * (dy - rows(of_mean, y) - y * rows(of_rate, y))).astype(y.dtype)


def affine_norm_gradient(x, mean, rate, scale, dy):
    size = x.size // x.shape[-1]
    dshift = channel_sum(dy)
    dscale = channel_sum_of(lambda dy, x: dy * ((x - rows(mean, x)) * rows(rate, x)), dy, x)
    of_rate = rows(rate * dscale / size, x)
    dx = rows(scale * rate, x) * (dy - rows(dshift / size, x) - (x - rows(mean, x)) * of_rate)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dshift.astype(scale.dtype)


def norm_moments(x, *, eps):
    mean, _, rate = _moments(x, eps)
    return mean, rate


def weighted_norms(weights, rates, shifts, *arrays):
    """sum_n weights[n] * (rates[n] * arrays[n] - shifts[n]), where rates and shifts may be None."""
    terms = []
    for weight, rate, shift, x in zip(weights, rates, shifts, arrays, strict=True):
        if rate is None:
            terms.append(weight * x)
        else:
            terms.append(rows(weight * rate, x) * x - rows(weight * shift, x))
    return add_up(terms).astype(arrays[0].dtype)


def mixed_norm_gradient(x, mean, rate, weight, g, g_mean):
    """The gradients of x and weight: with n = rate * (x - mean) of weight * n, whose gradient is g
    of mean g_mean [C]."""
    size = x.size // x.shape[-1]
    inner = rate * channel_sum_of(lambda g, x: g * (x - rows(mean, x)), g, x)
    of_rate = rows(rate * inner / size, x)
    gradient = rows(weight * rate, x) * (g - rows(g_mean, x) - (x - rows(mean, x)) * of_rate)
    return gradient.astype(x.dtype), inner.sum()


# What norms compute is not counted, though channel sums are written as products.
_forward, _affine_forward = opaque(norm_forward), opaque(affine_norm_forward)
NORMS = (_forward, _affine_forward)  # kernels that normalise their first argument
_norm_moments, _weighted_norms = opaque(norm_moments), opaque(weighted_norms)
_gradient, _affine_gradient = fence(norm_gradient), fence(affine_norm_gradient)
_mixed_gradient = fence(mixed_norm_gradient)


def _normalize_fwd(x, scale, shift, eps):
    if scale is None:
        y, mean, var, rate = _forward(x, eps=eps)
        return (y, mean, var), (y, None, rate, None)
    y, mean, var, rate = _affine_forward(x, scale, shift, eps=eps)
    return (y, mean, var), (x, mean, rate, scale)


def _normalize_bwd(eps, saved, cotangents):
    del eps
    x, mean, rate, scale = saved
    if scale is None:
        return _gradient(x, rate, cotangents[0]), None, None
    return _affine_gradient(x, mean, rate, scale, cotangents[0])


@with_vjp(_normalize_fwd, _normalize_bwd, nondiff_argnums=(3,))
def normalize(
    x: Array, scale: Array | None, shift: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """Returns (y, mean, var) with y = (x - mean) / sqrt(var + eps), mean and biased var [C] over
    all axes but the last.

    With `scale` and `shift` [C] y is multiplied and shifted in the same pass; either both are given
    or neither. Statistics are float32 or wider. The gradient is that of y alone: with n = (x -
    mean) / sqrt(var + eps), dshift = sum(dy), dscale = sum(dy * n) and dx = scale * (dy - dshift /
    N - n * dscale / N) / sqrt(var + eps). What it keeps is one array, n where it is y anyway,
    otherwise x; the automatic gradient keeps the steps in between.
    """
    return _normalize_fwd(x, scale, shift, eps)[0]


def mixed_norms(weights, arrays, moments):
    """The sum in one pass over all arrays, once their moments are known."""
    rates = [rate for _, rate in moments]
    shifts = [None if rate is None else rate * mean for mean, rate in moments]
    return _weighted_norms(list(weights), rates, shifts, *arrays)


def _moments_of(arrays, eps):
    return [
        (None, None) if own is None else _norm_moments(x, eps=own)
        for x, own in zip(arrays, eps, strict=True)
    ]


def _mixed_norm_sum_fwd(weights, arrays, eps):
    moments = _moments_of(arrays, eps)
    return mixed_norms(weights, arrays, moments), (weights, arrays, moments)


def _mixed_norm_sum_bwd(eps, saved, g):
    weights, arrays, moments = saved
    g_mean, found = channel_sum(g) / (g.size // g.shape[-1]), []
    for weight, x, (mean, rate), own in zip(weights, arrays, moments, eps, strict=True):
        if own is None:
            found.append(((weight * g).astype(x.dtype), inner_product(g, x)))
        else:
            found.append(_mixed_gradient(x, mean, rate, weight, g, g_mean))
    of_arrays, of_weights = zip(*found, strict=True)
    return jnp.stack(of_weights).astype(weights.dtype), type(arrays)(of_arrays)


@with_vjp(_mixed_norm_sum_fwd, _mixed_norm_sum_bwd, nondiff_argnums=(2,))
def mixed_norm_sum(weights: Array, arrays: Sequence[Array], eps: tuple[float | None, ...]) -> Array:
    """Returns sum_n weights[n] * norm_n(arrays[n]) for N arrays [B, H, W, C] and weights [N].

    norm_n is `normalize` without scale and shift, with eps[n]; the identity where that is None. No
    normalised array is ever written, only their sum is, and the gradients of the norms hold what
    those of the weights need: the inner product of the gradient with the normalised array is one of
    the two sums in the norm's own gradient.
    """
    return mixed_norms(weights, arrays, _moments_of(arrays, eps))


def _stacked_norm_sum_fwd(weights, x, eps):
    mean, rate = jax.vmap(partial(norm_moments, eps=eps))(x)
    y = weighted_norms(list(weights), list(rate), list(rate * mean), *x)
    return y, (weights, x, mean, rate)


def _stacked_norm_sum_bwd(eps, saved, g):
    del eps
    weights, x, mean, rate = saved
    g_mean = channel_sum(g) / (g.size // g.shape[-1])
    of_x, of_weights = jax.vmap(mixed_norm_gradient, (0, 0, 0, 0, None, None))(
        x, mean, rate, weights, g, g_mean
    )
    return of_weights.astype(weights.dtype), of_x


@with_vjp(_stacked_norm_sum_fwd, _stacked_norm_sum_bwd, nondiff_argnums=(2,))
def stacked_norm_sum(weights: Array, x: Array, eps: float) -> Array:
    """Returns mixed_norm_sum(weights, list(x), (eps,) * N) for x [N, B, H, W, C], with one
    reduction in place of N."""
    return _stacked_norm_sum_fwd(weights, x, eps)[0]
