"""What policies of augmentation do to an image: the transforms of AutoAugment and RandAugment.

Each is (image uint8 [H, W, C], numbers) -> an image alike, and equals that of Pillow, in integers
where Pillow computes in integers. C is 3, or 1 for grey images. What comes in from outside of an
image is black.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, Array


class Numbers(NamedTuple):
    """What a transform is given, the same for all."""

    matrix: AnyArray  # [6] int32, of `affine`
    amount: AnyArray  # [] float32, what all others take


# An image [H, W, C] uint8 and its numbers -> the image after the transform.
Apply = Callable[[Array, Numbers], Array]


def _amount(value: float, height: int, width: int) -> Numbers:
    del height, width
    return Numbers(np.zeros(6, np.int32), np.asarray(value, np.float32))


class Transform(NamedTuple):
    """What changes an image, by a magnitude, with the values of torchvision's AutoAugment and
    RandAugment.

    A value is in its own unit: a part of an image's side, degrees, a change of an enhancing
    factor from 1, bits, or a level.
    """

    apply: Apply
    least: float = 0.0  # its value at the magnitude 0
    most: float = 0.0  # and at the largest
    signed: bool = False  # whether the value has a random sign
    numbers: Callable[[float, int, int], Numbers] = _amount  # of (value, height, width)


def check_channels(images: Array) -> None:
    """Raises ValueError unless images [B, H, W, C] are grey or have red, green and blue."""
    if images.shape[-1] not in (1, 3):
        raise ValueError(
            "policies of augmentation are for grey images and those with red, green and blue; these"
            f" have {images.shape[-1]} channels; leave the policy out (--augment=none)"
        )


def affine(image: Array, numbers: Numbers) -> Array:
    """Returns the image whose pixel (x, y) is the nearest one to (ax + by + c, dx + ey + f), as
    Pillow's Image.transform finds it in fixed point: `matrix` holds 16 bits of fraction."""
    height, width, _ = image.shape
    a, b, c, d, e, f = numbers.matrix
    x, y = jnp.arange(width)[None, :], jnp.arange(height)[:, None]
    column = (c + a * x + b * y) >> 16
    row = (f + d * x + e * y) >> 16
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    moved = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], moved, 0)


def _moved(most: float, matrix: Callable[[float, int, int], Sequence[float]]) -> Transform:
    """The affine transform whose matrix (a, b, c, d, e, f) is that of (value, height, width)."""

    def numbers(value: float, height: int, width: int) -> Numbers:
        a, b, c, d, e, f = matrix(value, height, width)
        # From the middle of pixels.
        entries = np.asarray([a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2])
        fixed = np.floor(entries * 65536 + 0.5).astype(np.int32)
        return Numbers(fixed, np.zeros((), np.float32))

    return Transform(affine, most=most, signed=True, numbers=numbers)


def _rotation(degrees: float, height: int, width: int) -> Sequence[float]:
    """About the middle of the image, against the clock."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = width / 2, height / 2
    return cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y


def grey(image: Array) -> Array:
    """Returns the luma [H, W, 1] of an image: that of ITU-R 601, as Pillow rounds it."""
    if image.shape[-1] == 1:
        return image
    luma = image.astype(jnp.int32) @ jnp.asarray([19595, 38470, 7471])
    return ((luma + 32768) >> 16).astype(jnp.uint8)[..., None]


def blend(first: Array, second: Array, part: AnyArray) -> Array:
    """Returns first + part * (second - first), cut to whole levels in 0..255; part may be above
    1."""
    low, high = first.astype(jnp.float32), second.astype(jnp.float32)
    return jnp.clip(low + part * (high - low), 0, 255).astype(jnp.uint8)


def _black(image: Array) -> Array:
    return jnp.zeros_like(image)


def _mean_grey(image: Array) -> Array:
    luma = grey(image).astype(jnp.int32)
    # The mean and a half, in integers: rounded to the next level.
    return ((2 * luma.sum() + luma.size) // (2 * luma.size)).astype(jnp.uint8)


def _smooth(image: Array) -> Array:
    """The mean of 3x3 pixels, that in the middle five times; pixels at the border stay."""
    wide = image.astype(jnp.int32)
    height, width, _ = image.shape
    if min(height, width) < 3:
        return image
    total = 4 * wide[1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += wide[row : row + height - 2, column : column + width - 2]
    return image.at[1:-1, 1:-1].set(((total + 6) // 13).astype(jnp.uint8))


def _enhance(worst: Callable[[Array], Array]) -> Transform:
    """What moves an image away from its worst form, at the amount 0, through itself, at 1,
    and beyond."""

    def apply(image: Array, numbers: Numbers) -> Array:
        return blend(worst(image), image, numbers.amount)

    def numbers(value: float, height: int, width: int) -> Numbers:
        return _amount(1 + value, height, width)

    return Transform(apply, most=0.9, signed=True, numbers=numbers)


def posterize(image: Array, numbers: Numbers) -> Array:
    """Returns the image with `amount` bits a level."""
    dropped = 8 - numbers.amount.astype(jnp.uint8)
    return (image >> dropped) << dropped


def solarize(image: Array, numbers: Numbers) -> Array:
    """Returns the image with all levels from `amount` on inverted."""
    return jnp.where(image < numbers.amount, image, 255 - image)


def invert(image: Array, numbers: Numbers) -> Array:
    """Returns the image with all levels inverted."""
    del numbers
    return 255 - image


def autocontrast(image: Array, numbers: Numbers) -> Array:
    """Returns the image whose channels are stretched to 0..255."""
    del numbers
    wide = image.astype(jnp.int32)
    low, high = wide.min((0, 1)), wide.max((0, 1))
    stretched = (wide - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, wide).astype(jnp.uint8)


def equalize(image: Array, numbers: Numbers) -> Array:
    """Returns the image of which each channel has its levels as evenly as can be."""
    del numbers

    def of_channel(channel: Array) -> Array:
        counts = jnp.bincount(channel.ravel(), length=256)
        step = (channel.size - counts[channel.max()]) // 255
        below = jnp.cumsum(counts) - counts
        levels = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
        return jnp.where(step > 0, levels[channel], channel).astype(jnp.uint8)

    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(image)


def _bits(value: float, height: int, width: int) -> Numbers:
    return _amount(round(value), height, width)


_SHIFT = 150 / 331  # a part of the side, brought to whole pixels

TRANSFORMS = {
    "identity": Transform(lambda image, numbers: image),
    "shear_x": _moved(0.3, lambda part, height, width: (1, part, 0, 0, 1, 0)),
    "shear_y": _moved(0.3, lambda part, height, width: (1, 0, 0, part, 1, 0)),
    "translate_x": _moved(_SHIFT, lambda part, height, width: (1, 0, int(part * width), 0, 1, 0)),
    "translate_y": _moved(_SHIFT, lambda part, height, width: (1, 0, 0, 0, 1, int(part * height))),
    "rotate": _moved(30.0, _rotation),
    "brightness": _enhance(_black),
    "color": _enhance(grey),
    "contrast": _enhance(_mean_grey),
    "sharpness": _enhance(_smooth),
    "posterize": Transform(posterize, least=8, most=4, numbers=_bits),
    "solarize": Transform(solarize, least=255, most=0),
    "autocontrast": Transform(autocontrast),
    "equalize": Transform(equalize),
    "invert": Transform(invert),
}
# Each function once: those that are affine share theirs. The first one is the identity.
BRANCHES = tuple(dict.fromkeys(transform.apply for transform in TRANSFORMS.values()))
