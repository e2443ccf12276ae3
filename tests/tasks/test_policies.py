"""AutoAugment and RandAugment have the published values, and draw what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas import tasks
from dnas.tasks.policies import CIFAR10, _policy, auto_augment, rand_augment
from dnas.tasks.transforms import TRANSFORMS

IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8))

# torchvision's _augmentation_space, at the magnitudes 0, 9 of AutoAugment and of RandAugment.
VALUES = {
    "shear_x": (0.0, 0.3, 0.09),
    "shear_y": (0.0, 0.3, 0.09),
    "translate_x": (0.0, 0.4532, 0.13595),
    "translate_y": (0.0, 0.4532, 0.13595),
    "rotate": (0.0, 30.0, 9.0),
    "brightness": (0.0, 0.9, 0.27),
    "color": (0.0, 0.9, 0.27),
    "contrast": (0.0, 0.9, 0.27),
    "sharpness": (0.0, 0.9, 0.27),
    "posterize": (8, 4, 6.8),  # 7 bits
    "solarize": (255.0, 0.0, 178.5),
}
SIGNED = set(VALUES) - {"posterize", "solarize"}


def test_magnitudes_stand_for_the_published_values():
    for name, transform in TRANSFORMS.items():
        zero, most, nine = VALUES.get(name, (0.0, 0.0, 0.0))
        assert (transform.least, transform.most) == pytest.approx((zero, most), rel=1e-4)
        assert transform.least + (transform.most - transform.least) * 9 / 30 == pytest.approx(
            nine, rel=1e-4
        )
        assert transform.signed == (name in SIGNED)


def test_the_policy_of_cifar10_has_25_pairs_of_known_transforms():
    assert len(CIFAR10) == 25
    for steps in CIFAR10:
        assert len(steps) == 2
        for name, probability, magnitude in steps:
            assert name in TRANSFORMS and 0 <= probability <= 1 and 0 <= magnitude <= 9


@pytest.mark.parametrize("name", tasks.AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_gives_images_of_the_same_kind_under_jit(name, channels):
    images = IMAGES[..., :channels]
    policy = tasks.AUGMENTATIONS[name]()
    found = jax.jit(policy)(jax.random.key(0), images)
    assert found.shape == images.shape and found.dtype == jnp.uint8
    assert (name == "none") == bool((found == images).all())


def test_steps_follow_each_other_and_each_is_applied_as_often_as_it_should():
    """Inverting twice is nothing; a step of probability zero never happens."""
    images = jnp.asarray(np.zeros((400, 2, 2, 1), np.uint8))
    policy = jax.jit(_policy([(("invert", 1.0, 0), ("invert", 0.25, 0))], largest=9))
    found = np.asarray(policy(jax.random.key(0), images))[:, 0, 0, 0]
    assert set(found) == {0, 255} and 0.18 < (found == 0).mean() < 0.32
    never = jax.jit(_policy([(("invert", 0.0, 0),)], largest=9))
    np.testing.assert_array_equal(never(jax.random.key(0), images), images)


def test_sub_policies_are_drawn_evenly_and_as_often_as_said():
    """Two shifts of one pixel, each along a row or a column, either way."""
    images = jnp.zeros((400, 7, 7, 1), jnp.uint8).at[:, 3, 3].set(255)
    names = ("translate_x", "translate_y")
    policy = jax.jit(_policy([((name, 1.0, 3),) for name in names], largest=9, draws=2))
    places = np.argwhere(np.asarray(policy(jax.random.key(1), images))[..., 0])[:, 1:]
    moved = np.abs(places - 3)
    assert len(moved) == 400 and set(moved.sum(1)) == {0, 2}
    for kind in ((0, 0), (0, 2), (2, 0), (1, 1)):
        expected = {(0, 0): 1 / 4, (0, 2): 1 / 8, (2, 0): 1 / 8, (1, 1): 1 / 2}[kind]
        assert abs((moved == kind).all(1).mean() - expected) < 0.07


def test_rand_augment_draws_each_of_its_14_transforms_at_its_magnitude_with_either_sign():
    image = np.random.default_rng(0).integers(40, 200, (20, 20, 3), np.uint8)
    allowed = {}
    for name, transform in TRANSFORMS.items():
        value = transform.least + (transform.most - transform.least) * 20 / 30
        for signed in {value, -value if transform.signed else value}:
            numbers = transform.numbers(signed, 20, 20)
            allowed[name, signed] = np.asarray(transform.apply(jnp.asarray(image), numbers), int)
    policy = jax.jit(rand_augment(num_ops=1, magnitude=20))
    drawn = set()
    for found in np.asarray(policy(jax.random.key(0), jnp.asarray(np.stack([image] * 400))), int):
        # Factors are multiplied and added at once or not, which may be a level.
        (kind,) = [kind for kind, each in allowed.items() if np.abs(found - each).max() <= 1]
        drawn.add(kind)
    assert drawn == {kind for kind in allowed if kind[0] != "invert"}


@pytest.mark.parametrize("wrong", [{"num_ops": 0}, {"magnitude": 31}, {"magnitude": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 1 and magnitude is in 0..30"):
        rand_augment(**wrong)


def test_images_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="2 channels.*augment=none"):
        auto_augment()(jax.random.key(0), IMAGES[..., :2])
