"""Policies of augmentation: AutoAugment and RandAugment.

A policy is (key, images uint8 [B, H, W, C]) -> images alike, drawn for each image by itself.

A policy runs inside the compiled step. There each image has a transform of its own, so that all are
computed on all images and one result is taken of each: a dozen passes over the pixels, which is
little beside a network.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key
from dnas.checks import checked
from dnas.tasks.transforms import BRANCHES, TRANSFORMS, Numbers, check_channels

Policy = Callable[[Key, Array], Array]
# (transform, probability, magnitude), one after the other
SubPolicy = tuple[tuple[str, float, int], ...]

# The policy of the paper as torchvision has it, magnitudes 0 to 9.
CIFAR10: tuple[SubPolicy, ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)


def no_policy() -> Policy:
    """Returns the policy that leaves images as they are."""
    return unchanged


def unchanged(key: Key, images: Array) -> Array:
    """Returns the images."""
    del key
    return images


def auto_augment() -> Policy:
    """Returns AutoAugment with the policy that was found on CIFAR-10,
    https://arxiv.org/abs/1805.09501: of its 25 sub-policies an image is given one at random.

    Brightness, color, contrast and sharpness go either way from 1, as in torchvision; in the code
    of the paper a magnitude stands for one factor in 0.1..1.9.

    Example:
      >>> images = jnp.zeros((2, 8, 8, 3), jnp.uint8)
      >>> auto_augment()(jax.random.key(0), images).shape
      (2, 8, 8, 3)
    """
    return _policy(CIFAR10, largest=9)


@checked
def rand_augment(*, num_ops: int = 2, magnitude: int = 9) -> Policy:
    """Returns RandAugment, https://arxiv.org/abs/1909.13719: each image is given `num_ops`
    transforms, one after the other, drawn evenly from the paper's 14.

    Args:
      magnitude: of all transforms, 0..30.

    Raises:
      ValueError: for numbers that are out of range.
    """
    if num_ops < 1 or not 0 <= magnitude <= 30:
        raise ValueError(
            "num_ops of rand_augment is at least 1 and magnitude is in 0..30, got"
            f" {num_ops} and {magnitude}"
        )
    names = [name for name in TRANSFORMS if name != "invert"]
    return _policy([((name, 1.0, magnitude),) for name in names], largest=30, draws=num_ops)


def _policy(sub_policies: Sequence[SubPolicy], *, largest: int, draws: int = 1) -> Policy:
    """The policy that gives an image a random one of sub-policies of S steps each, `draws` times.

    Args:
      largest: the magnitude at which a transform has its value `most`.
    """

    def augment(key: Key, images: Array) -> Array:
        check_channels(images)
        branches, probabilities, numbers = _tables(sub_policies, largest, *images.shape[1:3])

        def draw(key: Key, image: Array) -> Array:
            row_key, apply_key, sign_key = jax.random.split(key, 3)
            row = jax.random.randint(row_key, (), 0, len(branches))
            applied = jax.random.uniform(apply_key, branches.shape[1:]) < probabilities[row]
            signs = jax.random.bernoulli(sign_key, 0.5, branches.shape[1:]).astype(jnp.int32)
            for step in range(branches.shape[1]):
                own = jax.tree.map(lambda table: table[row, step, signs[step]], numbers)  # noqa: B023
                branch = jnp.where(applied[step], branches[row, step], 0)
                image = jax.lax.switch(branch, BRANCHES, image, own)
            return image

        for draw_key in jax.random.split(key, draws):
            images = jax.vmap(draw)(jax.random.split(draw_key, len(images)), images)
        return images

    return augment


def _tables(
    sub_policies: Sequence[SubPolicy], largest: int, height: int, width: int
) -> tuple[Array, Array, Numbers]:
    """Returns, for P sub-policies of S steps, which function each step is and with which
    probability, [P, S], and its numbers with either sign, [P, S, 2, ...]."""
    branches, probabilities, numbers = [], [], []
    for steps in sub_policies:
        for name, probability, magnitude in steps:
            transform = TRANSFORMS[name]
            value = transform.least + (transform.most - transform.least) * magnitude / largest
            branches.append(BRANCHES.index(transform.apply))
            probabilities.append(probability)
            for signed in (value, -value if transform.signed else value):
                numbers.append(transform.numbers(signed, height, width))
    shape = len(sub_policies), len(sub_policies[0])
    stacked = Numbers(*(jnp.asarray(np.stack(column)) for column in zip(*numbers, strict=True)))
    return (
        jnp.asarray(branches).reshape(shape),
        jnp.asarray(probabilities).reshape(shape),
        jax.tree.map(lambda rows: rows.reshape(*shape, 2, *rows.shape[1:]), stacked),
    )
