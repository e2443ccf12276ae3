"""How training images of ImageNet are drawn in the recipe of DARTS: a crop of any size, and colours
that vary.

Images are cropped after they were brought to one size, where the released code crops originals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key
from dnas.checks import checked
from dnas.tasks.policies import Policy
from dnas.tasks.transforms import TRANSFORMS, Numbers, check_channels

_ATTEMPTS = 10  # as many as torchvision has


@checked
def imagenet(
    *,
    least_area: float = 0.08,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.2,
) -> Policy:
    """Returns a resized crop, then a jitter of colours, with the values of DARTS on ImageNet,
    cnn/train_imagenet.py of its release. It takes the place of the crop of other recipes.

    Example:
      >>> images = jnp.zeros((2, 8, 8, 3), jnp.uint8)
      >>> imagenet()(jax.random.key(0), images).shape
      (2, 8, 8, 3)
    """
    crop = resized_crop(least_area=least_area)
    jitter = color_jitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)

    def augment(key: Key, images: Array) -> Array:
        crop_key, jitter_key = jax.random.split(key)
        return jitter(jitter_key, crop(crop_key, images))

    return augment


def resized_crop(*, least_area: float = 0.08) -> Policy:
    """Returns torchvision's RandomResizedCrop: a part of the image, brought to the image's size.

    Its area is evenly distributed over least_area..1 of the image's, the logarithm of its width by
    its height over log(3/4)..log(4/3). Of ten such boxes the first is taken that fits into the
    image; if none does, the largest box in its middle that such a shape allows.

    Raises:
      ValueError: unless least_area is above 0 and at most 1.
    """
    if not 0 < least_area <= 1:
        raise ValueError(f"least_area of resized_crop is above 0 and at most 1, got {least_area}")

    def crop(key: Key, image: Array) -> Array:
        area_key, shape_key, place_key = jax.random.split(key, 3)
        height, width, _ = image.shape
        size = jnp.asarray([height, width])
        area = jax.random.uniform(area_key, (_ATTEMPTS,), minval=least_area) * height * width
        bound = float(np.log(4 / 3))
        shape = jnp.exp(jax.random.uniform(shape_key, (_ATTEMPTS,), minval=-bound, maxval=bound))
        boxes = jnp.round(jnp.stack([jnp.sqrt(area / shape), jnp.sqrt(area * shape)], -1))
        fits = ((boxes >= 1) & (boxes <= size)).all(-1)
        box = boxes[jnp.argmax(fits)].astype(jnp.int32)
        corner = jax.random.randint(place_key, (2,), 0, jnp.maximum(size - box, 0) + 1)
        most = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
        largest = jnp.asarray(most)
        box = jnp.where(fits.any(), box, largest)
        corner = jnp.where(fits.any(), corner, (size - largest) // 2)
        return enlarge(image, corner, box)

    def augment(key: Key, images: Array) -> Array:
        return jax.vmap(crop)(jax.random.split(key, len(images)), images)

    return augment


def enlarge(image: Array, corner: Array, box: Array) -> Array:
    """Returns the part of an image [H, W, C] uint8 from corner (row, column) on, of box (rows,
    columns), brought to [H, W, C] bilinearly."""
    result = image.astype(jnp.float32)
    for axis in (0, 1):
        size = image.shape[axis]
        # Where the middles of the new pixels lie among the middles of the old ones.
        place = (jnp.arange(size) + 0.5) * box[axis] / size - 0.5
        place = corner[axis] + jnp.clip(place, 0, box[axis] - 1)
        before = jnp.floor(place).astype(jnp.int32)
        after = jnp.minimum(before + 1, corner[axis] + box[axis] - 1)
        part = jnp.expand_dims(place - before, (1, 2) if axis == 0 else (0, 2))
        result = (1 - part) * result.take(before, axis) + part * result.take(after, axis)
    return jnp.round(result).astype(jnp.uint8)


def color_jitter(
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.2,
) -> Policy:
    """Returns torchvision's ColorJitter, by default with the values of DARTS on ImageNet: each
    image has its brightness, contrast and saturation multiplied by a factor within 1 +- the value,
    and its hue turned by up to `hue` of the circle, in random order. Grey images have no hue and no
    saturation.

    Raises:
      ValueError: for values out of range.
    """
    changes = brightness, contrast, saturation
    if not (min(changes) >= 0 and 0 <= hue <= 0.5):
        raise ValueError(
            "brightness, contrast and saturation of color_jitter are from 0 on and hue in 0..0.5,"
            f" got {changes} and {hue}"
        )
    least = np.asarray([*(max(1 - change, 0) for change in changes), -hue], np.float32)
    most = np.asarray([*(1 + change for change in changes), hue], np.float32)
    branches = [TRANSFORMS[name].apply for name in ("brightness", "contrast", "color")] + [turn_hue]

    def jitter(key: Key, image: Array) -> Array:
        order_key, amount_key = jax.random.split(key)
        amounts = jax.random.uniform(amount_key, (4,), minval=least, maxval=most)
        for branch in jax.random.permutation(order_key, 4):
            numbers = Numbers(jnp.zeros(6, jnp.int32), amounts[branch])
            image = jax.lax.switch(branch, branches, image, numbers)
        return image

    def augment(key: Key, images: Array) -> Array:
        check_channels(images)
        return jax.vmap(jitter)(jax.random.split(key, len(images)), images)

    return augment


def turn_hue(image: Array, numbers: Numbers) -> Array:
    """Returns the image with its hue turned by `amount` of the circle, through the 8 bits of
    Pillow's hue, saturation and value."""
    if image.shape[-1] == 1:
        return image
    colors = image.astype(jnp.float32)
    red, green, blue = jnp.moveaxis(colors, -1, 0)
    most, least = colors.max(-1), colors.min(-1)
    spread = jnp.maximum(most - least, 1)
    from_red, from_green, from_blue = ((most - each) / spread for each in (red, green, blue))
    sector = jnp.where(
        red == most,
        from_blue - from_green,
        jnp.where(green == most, 2 + from_red - from_blue, 4 + from_green - from_red),
    )
    hue = jnp.floor((sector / 6 + 1) % 1 * 255)
    saturation = jnp.floor((most - least) / jnp.maximum(most, 1) * 255) / 255
    hue = (hue + jnp.trunc(numbers.amount * 255)) % 256

    place = hue * 6 / 255
    part = place % 1
    low = jnp.round(most * (1 - saturation))
    falling = jnp.round(most * (1 - saturation * part))
    rising = jnp.round(most * (1 - saturation * (1 - part)))
    sixths = (
        (most, rising, low),
        (falling, most, low),
        (low, most, rising),
        (low, falling, most),
        (rising, low, most),
        (most, low, falling),
    )
    sixth = place.astype(jnp.int32) % 6
    turned = jnp.stack(
        [jnp.choose(sixth, each, mode="clip") for each in zip(*sixths, strict=True)], -1
    )
    return turned.astype(jnp.uint8)
