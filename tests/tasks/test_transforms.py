"""Every transform of a policy is Pillow's, and its values are the published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dnas.tasks.transforms import TRANSFORMS

SHAPES = [(16, 16, 3), (9, 13, 3), (8, 8, 1)]
VALUES = {
    "shear_x": [0.3, -0.3, 0.1, -0.07],
    "shear_y": [0.3, -0.3, 0.1, -0.07],
    "translate_x": [0.4, -0.4, 0.05],
    "translate_y": [0.4, -0.4, 0.05],
    "rotate": [30.0, -30.0, 6.6667, 0.0],
    "brightness": [0.9, -0.9, 0.3, -0.1],
    "color": [0.9, -0.9, 0.3, -0.1],
    "contrast": [0.9, -0.9, 0.3, -0.1],
    "sharpness": [0.9, -0.9, 0.3, -0.1],
    "posterize": [4, 5.2, 7, 8],
    "solarize": [0.0, 56.7, 198.3, 255.0],
    "autocontrast": [0.0],
    "equalize": [0.0],
    "invert": [0.0],
    "identity": [0.0],
}
# Where Pillow computes in floating point, and may cut what is just below a whole level.
WITHIN_ONE_LEVEL = {"brightness", "color", "contrast", "sharpness", "autocontrast"}


def pillow(name, image, value):
    """What the released code of the policies does with Pillow."""
    width, height = image.size
    match name:
        case "shear_x":
            return image.transform(image.size, Image.Transform.AFFINE, (1, value, 0, 0, 1, 0))
        case "shear_y":
            return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, value, 1, 0))
        case "translate_x":
            shift = int(value * width)
            return image.transform(image.size, Image.Transform.AFFINE, (1, 0, shift, 0, 1, 0))
        case "translate_y":
            shift = int(value * height)
            return image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, shift))
        case "rotate":
            return image.rotate(value)
        case "brightness" | "color" | "contrast" | "sharpness":
            return getattr(ImageEnhance, name.capitalize())(image).enhance(1 + value)
        case "posterize":
            return ImageOps.posterize(image, round(value))
        case "solarize":
            return ImageOps.solarize(image, value)
        case "identity":
            return image
        case _:
            return getattr(ImageOps, name)(image)


def as_pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def random_images(shape):
    """Of all levels, of few, and of one."""
    random = np.random.default_rng(0)
    ranges = [(0, 256), (90, 140), (3, 6), (77, 78)]
    return [random.integers(low, high, shape, np.uint8) for low, high in ranges]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VALUES)
def test_a_transform_is_that_of_pillow(name, shape):
    transform = TRANSFORMS[name]
    apply = jax.jit(transform.apply)
    differ = total = 0
    for value in VALUES[name]:
        numbers = transform.numbers(value, *shape[:2])
        for image in random_images(shape):
            expected = np.asarray(pillow(name, as_pillow(image), value)).reshape(shape)
            found = apply(jnp.asarray(image), numbers)
            assert found.dtype == jnp.uint8
            away = np.abs(np.asarray(found, int) - expected)
            assert away.max() <= (1 if name in WITHIN_ONE_LEVEL else 0)
            differ, total = differ + np.count_nonzero(away), total + away.size
    assert differ <= 0.02 * total


def test_every_transform_is_compared():
    assert VALUES.keys() == TRANSFORMS.keys()
