"""Shifted views of images, of which convolutions and pooling are made.

Inside a fence only `lax` is used: a `jnp` function that is itself jitted, such as `jnp.pad` or
`jnp.where`, would inherit the fence and become a call of its own, which nothing fuses with.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from dnas.base import Array


def slices(
    padded: Array, kernel: int, stride: int, dilation: int, size: tuple[int, int], border: int = 0
) -> list[Array]:
    """The k * k shifted views [B, h, w, C] of a padded image, row by row; `size` is (h, w),
    `border` padded too much."""
    batch, _, _, channels = padded.shape
    height, width = (size[0] - 1) * stride + 1, (size[1] - 1) * stride + 1
    starts = [
        (border + i * dilation, border + j * dilation) for i in range(kernel) for j in range(kernel)
    ]
    return [
        lax.slice(
            padded, (0, i, j, 0), (batch, i + height, j + width, channels), (1, stride, stride, 1)
        )
        for i, j in starts
    ]


def pad(x: Array, sides: int, value: float = 0.0) -> Array:
    return lax.pad(
        x, jnp.asarray(value, x.dtype), ((0, 0, 0), (sides, sides, 0), (sides, sides, 0), (0, 0, 0))
    )


def total(arrays: Sequence[Array]) -> Array:
    """The sum, with `lax` alone: tracing hundreds of taps with the operators of arrays takes
    several times as long."""
    return functools.reduce(lax.add, arrays)


def out_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def dilate(g: Array, size: tuple[int, int], stride: int, value: float = 0.0) -> Array:
    """Undoes a stride: spreads g [B, h, w, C] to [B, H, W, C] with `value` in between."""
    if stride == 1:
        return g
    spread = [
        (0, full - ((part - 1) * stride + 1), stride - 1)
        for full, part in zip(size, g.shape[1:3], strict=True)
    ]
    return lax.pad(g, jnp.asarray(value, g.dtype), ((0, 0, 0), *spread, (0, 0, 0)))


def smaller(x, *_, size, stride, **rest) -> tuple[int, ...]:
    return x.shape[0], *out_size(size, stride), x.shape[3]


def larger(g, *_, size, **rest) -> tuple[int, ...]:
    return g.shape[0], *size, g.shape[3]
