"""Arrays in, augmented batches out. The images stay on the device as uint8; batches are arrays of
indices."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, Array, Batch, Key
from dnas.checks import check_fields
from dnas.tasks.policies import Policy, unchanged


class Augmentation(NamedTuple):
    """What is done to images, in this order: crop, flip, policy, normalise, cutout, as in the paper
    of AutoAugment.

    The defaults are those of the DARTS search on CIFAR-10; evaluation there adds cutout=16.
    """

    # Of each channel, pixels in 0..1.
    mean: tuple[float, ...] = (
        0.49139968,
        0.48215827,
        0.44653124,
    )
    std: tuple[float, ...] = (0.24703233, 0.24348505, 0.26158768)
    crop_padding: int = (
        4  # pixels of black around the image before it is cropped to its size; 0 for no crop
    )
    flip: bool = True  # left to right, half of the images
    cutout: int = (
        0  # side of the square set to the mean, https://arxiv.org/abs/1708.04552; 0 for none
    )
    policy: Policy = unchanged  # or `dnas.tasks.auto_augment()`, `rand_augment()`, `imagenet()`


class Data(NamedTuple):
    """Labelled images."""

    images: AnyArray  # [N, H, W, C] uint8
    labels: AnyArray  # [N] int32


def check_data(images, labels, num_classes: int | None = None) -> Data:
    """Returns the pair as `Data` on the host, or says what is wrong with it.

    Warns of images that look like [N, C, H, W]: at most 4 rows, more columns and more channels.

    Raises:
      ValueError: unless images are uint8 [N, H, W, C] and labels N whole numbers from 0 (below
        num_classes if given, and 2^31 - 1 else).
    """
    images, labels = _array("images", images), _array("labels", labels)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"images must be a uint8 array [N, H, W, C], got {images.dtype} {list(images.shape)};"
            " scale pixels to 0..255, and give grey images a last axis of 1"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be {len(images)} whole numbers, one an image, got {labels.dtype}"
            f" {list(labels.shape)}"
        )
    # Before they become int32, in which 2^32 would be 0.
    most = np.iinfo(np.int32).max
    if num_classes is not None:
        most = min(num_classes, most)
    if labels.min() < 0 or labels.max() >= most:
        raise ValueError(
            f"labels must lie in 0..{most - 1}, got {labels.min()}..{labels.max()}; number the"
            " classes from 0"
        )
    _, height, width, channels = images.shape
    if height <= 4 < min(width, channels):
        warnings.warn(
            f"images {list(images.shape)} are read as [N, H, W, C], {height} x {width} pixels of"
            f" {channels} channels; if they are [N, C, H, W], give images.transpose(0, 2, 3, 1)",
            stacklevel=3,
        )
    return Data(images, labels.astype(np.int32))


def _array(name: str, given) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError:  # rows of several lengths
        raise ValueError(f"{name} are one array, in which all are of one size") from None


def check_augmentation(augmentation: Augmentation, images) -> None:
    """Raises ValueError unless the augmentation fits images [N, H, W, C]."""
    check_fields(augmentation)
    channels = images.shape[-1]
    for name in ("mean", "std"):
        values = getattr(augmentation, name)
        if len(values) not in (1, channels):
            raise ValueError(
                f"{name} of the augmentation has {len(values)} channels, but the images have"
                f" {channels}; take that of the images themselves: dnas.plain_augmentation(images)"
            )
    if min(augmentation.std) <= 0:
        raise ValueError(f"std of the augmentation must be positive, got {augmentation.std}")
    if min(augmentation.crop_padding, augmentation.cutout) < 0:
        raise ValueError(
            f"crop_padding and cutout are numbers of pixels from 0 on, got {augmentation}"
        )
    try:  # says itself what it cannot be given
        jax.eval_shape(augmentation.policy, jax.random.key(0), images[:1])
    except (TypeError, AttributeError) as error:
        raise ValueError(
            "the policy of the augmentation is a function (key, images) -> images; what was given"
            f" fails on images: {error!s:.200}"
        ) from error


def statistics(images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, std) of each channel of uint8 images [N, H, W, C], pixels in 0..1, as
    `Augmentation` takes them."""
    flat = np.asarray(images).reshape(-1, images.shape[-1]) / 255.0
    return tuple(flat.mean(0).tolist()), tuple(np.maximum(flat.std(0), 1e-3).tolist())


def plain_augmentation(images) -> Augmentation:
    """Returns the augmentation that only normalises images by their own statistics."""
    mean, std = statistics(images)
    return Augmentation(mean, std, crop_padding=0, flip=False)


def half_numbers(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of the examples in two random halves: one trains the weights of a search,
    the other its arch (DARTS, section 3.1)."""
    order = np.random.default_rng([seed, 0]).permutation(size)
    return order[: size // 2], order[size // 2 :]


def split_half(data: Data, seed: int) -> tuple[Data, Data]:
    """Returns the two halves of `half_numbers`."""
    first, second = half_numbers(len(data.labels), seed)
    return (
        Data(data.images[first], data.labels[first]),
        Data(data.images[second], data.labels[second]),
    )


def full_batches(size: int, batch_size: int) -> int:
    """Returns how many batches so many images fill.

    Raises:
      ValueError: if they fill none.
    """
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"{size} images and a batch size of {batch_size} were given; a run needs at"
            " least one full batch: lower the batch size or give more images"
        )
    return size // batch_size


def epoch_batches(seed: int, epoch: int, size: int, batch_size: int) -> np.ndarray:
    """Returns the indices [S, B] of an epoch: every example once in a new order, what does not fill
    a batch left out.

    The order depends on the seed and the epoch only, so that a resumed run sees the data it would
    have seen.
    """
    order = np.random.default_rng([seed, 1, epoch]).permutation(size)
    return order[: size // batch_size * batch_size].reshape(-1, batch_size).astype(np.int32)


def independent_batches(
    seed: int, epoch: int, size: int, batch_size: int, steps: int
) -> np.ndarray:
    """Returns indices [S, B] of which each row is an independent draw without repetition, as DARTS
    draws for arch."""
    random = np.random.default_rng([seed, 2, epoch])
    return np.stack([random.choice(size, batch_size, replace=False) for _ in range(steps)]).astype(
        np.int32
    )


def normalize(images: Array, augmentation: Augmentation) -> Array:
    """Returns float32 images (pixels / 255 - mean) / std for uint8 images [B, H, W, C]."""
    mean, std = (
        jnp.asarray(values, jnp.float32).reshape(1, 1, 1, -1)
        for values in (augmentation.mean, augmentation.std)
    )
    return (images.astype(jnp.float32) / 255.0 - mean) / std


def augmented_batch(key: Key, data: Data, indices: Any, augmentation: Augmentation) -> Batch:
    """Returns the examples at indices, [B] or a slice, cropped, flipped, changed by a policy,
    normalised and cut out at random, independently of each other.

    Runs inside the compiled step.
    """
    crop_key, flip_key, cutout_key, policy_key = jax.random.split(key, 4)
    images: Any = data.images[indices]
    if augmentation.crop_padding:
        images = _crop(crop_key, images, augmentation.crop_padding)
    if augmentation.flip:
        flipped = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    images = normalize(augmentation.policy(policy_key, images), augmentation)
    if augmentation.cutout:
        images = _cutout(cutout_key, images, augmentation.cutout)
    labels: Any = data.labels[indices]
    return Batch(images, labels)


def _crop(key: Key, images: Array, padding: int) -> Array:
    """Shifts each image by up to `padding` pixels either way; what comes in is black."""
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

    def crop_one(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(crop_one)(padded, corners)


def _cutout(key: Key, images: Array, side: int) -> Array:
    """Sets a square around a random pixel to the mean, zero after normalising; the part outside the
    image is lost."""
    batch, height, width, _ = images.shape
    row_key, column_key = jax.random.split(key)

    def outside(key, size):
        first = jax.random.randint(key, (batch, 1), 0, size) - side // 2
        place = jnp.arange(size)[None]
        return (place < first) | (place >= first + side)

    kept = outside(row_key, height)[:, :, None] | outside(column_key, width)[:, None, :]
    return images * kept[..., None].astype(images.dtype)
