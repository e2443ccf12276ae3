"""The crop and the jitter of ImageNet's recipe are Pillow's, at numbers of torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dnas.tasks.imagenet import color_jitter, enlarge, imagenet, resized_crop, turn_hue
from dnas.tasks.transforms import Numbers


@pytest.mark.parametrize("turn", [0.0, 0.2, -0.2, 0.5, 0.07])
def test_hue_is_turned_as_through_hsv_of_pillow(turn):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (32, 32, 3), np.uint8)
    hue, saturation, value = Image.fromarray(image).convert("HSV").split()
    turned = (np.asarray(hue, int) + int(turn * 255)) % 256
    hsv = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value))
    expected = np.asarray(hsv.convert("RGB"), int)
    numbers = Numbers(jnp.zeros(6, jnp.int32), jnp.float32(turn))
    away = np.abs(np.asarray(jax.jit(turn_hue)(jnp.asarray(image), numbers), int) - expected)
    # Some hue just below a whole level is the next one here, which is six levels of a channel.
    assert np.quantile(away, 0.99) <= 1 and away.max() <= 7


def test_a_grey_image_has_no_hue():
    image = jnp.arange(64, dtype=jnp.uint8).reshape(8, 8, 1)
    np.testing.assert_array_equal(turn_hue(image, Numbers(jnp.zeros(6), jnp.float32(0.2))), image)


@pytest.mark.parametrize("corner, box", [((0, 0), (12, 16)), ((3, 2), (5, 9)), ((11, 15), (1, 1))])
def test_a_crop_is_enlarged_as_by_pillow(corner, box):
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    (row, column), (rows, columns) = corner, box
    part = Image.fromarray(image[row : row + rows, column : column + columns])
    expected = np.asarray(part.resize((16, 12), Image.Resampling.BILINEAR), int)
    found = enlarge(jnp.asarray(image), jnp.asarray(corner), jnp.asarray(box))
    # Pillow rounds to whole levels between the two axes.
    assert np.abs(np.asarray(found, int) - expected).max() <= 1


def test_crops_have_the_areas_and_shapes_that_are_allowed():
    """On images whose red is their row and whose green is their column."""
    size = 64
    row, column = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    image = np.stack([row, column, 0 * row], -1).astype(np.uint8)
    images = jnp.asarray(np.stack([image] * 200))
    found = np.asarray(jax.jit(resized_crop())(jax.random.key(0), images), int)
    height = np.ptp(found[..., 0], axis=(1, 2)) + 1
    width = np.ptp(found[..., 1], axis=(1, 2)) + 1
    area = height * width / size**2
    assert 0.07 <= area.min() < 0.15 and 0.85 < area.max() <= 1
    assert 0.7 < (width / height).min() < 0.8 and 1.25 < (width / height).max() < 1.43
    corners = found[:, 0, 0, :2]
    assert (corners.min(0) == 0).all() and len(np.unique(corners, axis=0)) > 99
    # All parts of the area are as likely, but for those that rarely fit.
    assert 0.4 < area.mean() < 0.6


def test_a_crop_of_the_whole_area_of_a_square_image_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    found = jax.jit(resized_crop(least_area=1.0))(jax.random.key(0), jnp.asarray(image))
    np.testing.assert_array_equal(found, image)


def test_a_jitter_of_nothing_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    policy = color_jitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    found = np.asarray(jax.jit(policy)(jax.random.key(0), jnp.asarray(images)), int)
    # Only through hue, saturation and value, which have 8 bits.
    zero = Numbers(jnp.zeros(6, jnp.int32), jnp.float32(0))
    turned = np.asarray(jax.jit(jax.vmap(turn_hue, (0, None)))(jnp.asarray(images), zero), int)
    np.testing.assert_array_equal(found, turned)


def test_a_jitter_of_brightness_alone_is_a_factor_for_each_image():
    images = jnp.full((200, 4, 4, 1), 100, jnp.uint8)
    policy = color_jitter(brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)
    found = np.asarray(jax.jit(policy)(jax.random.key(0), images))
    assert (found == found[:, :1, :1]).all()
    factors = found[:, 0, 0, 0] / 100
    assert 0.59 <= factors.min() < 0.65 and 1.35 < factors.max() <= 1.4


def test_what_no_image_can_be_given_is_refused():
    with pytest.raises(ValueError, match="hue in 0..0.5.*0.6"):
        imagenet(hue=0.6)
    with pytest.raises(ValueError, match="least_area.*got 0.0"):
        imagenet(least_area=0.0)
