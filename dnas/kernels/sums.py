"""Sums over channels and pixels, and weighted sums of images, as XLA compiles them well."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, add_up
from dnas.kernels.backend import on_cpu
from dnas.kernels.kernel import with_vjp

# Parts that long sums and products over pixels are cut into, on a CPU: one is slower, and so is one
# an image of many.
PARTS = 8
# Terms that are added up in one expression: with 16 the step is as fast, and its program a sixth
# larger.
_MOST_TERMS = 4


def wide(dtype) -> jnp.dtype:
    """The type in which sums over many numbers are kept: float32, or the type itself if it is
    wider."""
    return jnp.promote_types(dtype, jnp.float32)


def channel_sum(x: Array) -> Array:
    """Returns the sums [C] of x [..., C] over all axes but the last, in float32 or wider.

    On a CPU as a product with a row of ones: XLA's own reduction over the leading axes is one
    thread that does not vectorise, four times slower and more; in parts, since XLA:CPU runs a
    product of one long row slowly. Elsewhere reductions are fast, and a product might round to
    fewer bits.
    """
    rows = x.reshape(-1, x.shape[-1])
    if not on_cpu():
        return rows.sum(0, dtype=wide(x.dtype))
    parts = rows.reshape(math.gcd(len(rows), PARTS), -1, rows.shape[1])
    ones = jnp.ones((len(parts), 1, parts.shape[1]), x.dtype)
    sums = lax.dot_general(
        ones, parts, (((2,), (1,)), ((0,), (0,))), preferred_element_type=wide(x.dtype)
    )
    return sums.sum((0, 1))


def channel_sum_of(function: Callable[..., Array], *arrays: Array) -> Array:
    """Returns channel_sum(function(*arrays)) for a function of each element alone, and arrays [B,
    ..., C].

    On a CPU the images are added up in the loop that computes the function, so that its values are
    never written.
    """
    terms = math.gcd(arrays[0].shape[0], _MOST_TERMS)
    if terms == 1 or not on_cpu():
        return channel_sum(function(*arrays))
    kind = arrays[0].dtype
    groups = [array.reshape(-1, terms, *array.shape[1:]) for array in arrays]
    slices = (
        [lax.index_in_dim(group, number, 1, keepdims=False) for group in groups]
        for number in range(terms)
    )
    return channel_sum(add_up(function(*own).astype(wide(kind)) for own in slices))


def inner_product(x: Array, y: Array) -> Array:
    """Returns the sum of x * y for arrays [B, ..., C], in float32 or wider.

    On a CPU as `channel_sum_of`: XLA:CPU writes the products of two long rows before it sums them.
    """
    kind = wide(jnp.result_type(x, y))
    if on_cpu() and x.ndim > 1:
        return channel_sum_of(lambda x, y: x.astype(kind) * y.astype(kind), x, y).sum()
    # Float32 products: on some accelerators the default has fewer bits.
    return jnp.vdot(x, y, precision="highest", preferred_element_type=kind)


def _weighted_sum_fwd(weights, arrays):
    y = add_up(scaled(weight, array) for weight, array in zip(weights, arrays, strict=True))
    return y, (weights, list(arrays))


def scaled(weight: Array, array: Array) -> Array:
    """Returns weight * array, for a number or [B] weights of array [B, ...]."""
    return (
        weight.astype(array.dtype).reshape(weight.shape + (1,) * (array.ndim - 1) * weight.ndim)
        * array
    )


def _weighted_sum_bwd(saved, g):
    weights, arrays = saved
    of_weights = [
        (inner_product if weights.ndim == 1 else jax.vmap(inner_product))(g, array)
        for array in arrays
    ]
    return jnp.stack(of_weights).astype(weights.dtype), [scaled(weight, g) for weight in weights]


@with_vjp(_weighted_sum_fwd, _weighted_sum_bwd)
def weighted_sum(weights: Array, arrays: Sequence[Array]) -> Array:
    """Returns sum_n weights[n] * arrays[n], for N arrays [B, ...] and weights [N], or [N, B] for
    weights of each sample.

    Its gradient of the weights is one inner product an array, which XLA runs as a product of
    matrices; the automatic one is a reduction to a scalar that does not vectorise.
    """
    return _weighted_sum_fwd(weights, arrays)[0]
