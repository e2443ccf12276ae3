"""Every augmented image is one that the description allows, and every epoch sees each example
once."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.tasks.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    check_data,
    epoch_batches,
    independent_batches,
    normalize,
    split_half,
    statistics,
)

# Gives back pixels 0..255.
PIXELS = Augmentation(mean=(0.0,), std=(1 / 255,), crop_padding=0, flip=False)


def random_data(size=6, shape=(5, 7, 3), low=1):
    images = np.random.default_rng(0).integers(low, 256, (size, *shape), np.uint8)
    return Data(jnp.asarray(images), jnp.arange(size, dtype=jnp.int32))


jitted_batch = jax.jit(augmented_batch, static_argnums=3)


def batch_of(augmentation, data, seed=0, indices=None):
    indices = jnp.arange(len(data.labels)) if indices is None else jnp.asarray(indices)
    return jitted_batch(jax.random.key(seed), data, indices, augmentation)


def as_pixels(images):
    return np.rint(np.asarray(images)).astype(np.uint8)


def test_no_augmentation_picks_the_examples():
    data, rows = random_data(), [3, 0, 3]
    batch = batch_of(PIXELS, data, indices=rows)
    np.testing.assert_array_equal(as_pixels(batch.inputs), np.asarray(data.images)[rows])
    np.testing.assert_array_equal(batch.targets, rows)


def windows(image, padding):
    """Every window of the padded image, by its corner."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    corners = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    return {
        corner: padded[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
        for corner in corners
    }


@pytest.mark.parametrize("padding", [1, 2])
def test_crop_is_a_window_of_the_padded_image_and_all_windows_occur(padding):
    data = random_data()
    allowed = [windows(image, padding) for image in np.asarray(data.images)]
    corners = set()
    for seed in range(40):
        found = as_pixels(batch_of(PIXELS._replace(crop_padding=padding), data, seed).inputs)
        for image, choices in zip(found, allowed, strict=True):
            matches = [corner for corner, window in choices.items() if (window == image).all()]
            assert len(matches) == 1
            corners.add(matches[0])
    assert len(corners) == (2 * padding + 1) ** 2


def test_crops_of_a_batch_are_independent():
    image = np.asarray(random_data().images[0])
    data = Data(jnp.asarray(np.stack([image] * 32)), jnp.zeros(32, jnp.int32))
    found = as_pixels(batch_of(PIXELS._replace(crop_padding=2), data).inputs)
    assert len({image.tobytes() for image in found}) > 10


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    data = random_data(size=400, shape=(2, 3, 1))
    images = np.asarray(data.images)
    found = as_pixels(batch_of(PIXELS._replace(flip=True), data).inputs)
    flipped = 0
    for image, before in zip(found, images, strict=True):
        if (image == before).all():
            continue
        np.testing.assert_array_equal(image, before[:, ::-1])
        flipped += 1
    assert 150 < flipped < 250


@pytest.mark.parametrize("side", [1, 2, 3, 4, 20])
def test_cutout_is_a_square_around_a_pixel_clipped_at_the_border(side):
    size, height, width = 300, 5, 6
    data = Data(jnp.full((size, height, width, 2), 255, jnp.uint8), jnp.zeros(size, jnp.int32))
    augmentation = Augmentation(mean=(0.5,), std=(0.5,), crop_padding=0, flip=False, cutout=side)
    images = np.asarray(batch_of(augmentation, data).inputs)
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    holes = images[..., 0] == 0.0  # the mean, after normalising
    np.testing.assert_allclose(images[~holes], 1.0, rtol=1e-6)

    def square(row, column):
        hole = np.zeros((height, width), bool)
        first_row, first_column = row - side // 2, column - side // 2
        for i in range(max(0, first_row), min(height, first_row + side)):
            for j in range(max(0, first_column), min(width, first_column + side)):
                hole[i, j] = True
        return hole

    squares = {square(row, column).tobytes() for row in range(height) for column in range(width)}
    assert {hole.tobytes() for hole in holes} == squares
    assert holes.sum((1, 2)).max() == min(side, height) * min(side, width)


def test_cutout_comes_last():
    augmentation = Augmentation(mean=(0.3,), std=(0.2,), crop_padding=2, cutout=3)
    images = np.asarray(batch_of(augmentation, random_data(size=64)).inputs)
    assert (
        (images == 0.0).all(-1).sum((1, 2)) >= 4
    ).all()  # a corner of a 3x3 square at the least; no pixel is at the mean


def test_black_comes_in_before_normalising():
    augmentation = Augmentation(mean=(0.5,), std=(0.25,), crop_padding=4, flip=False)
    data = Data(jnp.full((64, 4, 4, 1), 255, jnp.uint8), jnp.zeros(64, jnp.int32))
    images = np.asarray(batch_of(augmentation, data).inputs)
    assert set(np.unique(images.round(5)).tolist()) == {-2.0, 2.0}


def test_normalize_divides_by_255_subtracts_the_mean_and_divides_by_the_deviation():
    augmentation, data = Augmentation(), random_data(low=0)
    found = normalize(data.images, augmentation)
    assert found.dtype == jnp.float32
    for (number, row, column, channel), pixel in np.ndenumerate(np.asarray(data.images)):
        expected = (pixel / 255 - augmentation.mean[channel]) / augmentation.std[channel]
        np.testing.assert_allclose(
            found[number, row, column, channel], expected, rtol=1e-4, atol=1e-5
        )


def test_images_normalised_by_their_own_statistics_have_mean_zero_and_deviation_one():
    data = random_data(size=20, low=0)
    images = np.asarray(normalize(data.images, Augmentation(*statistics(data.images))))
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1.0, rtol=1e-5)


def test_constant_channel_has_a_positive_deviation():
    mean, std = statistics(np.full((3, 4, 4, 2), 51, np.uint8))
    np.testing.assert_allclose(mean, 0.2)
    check_augmentation(Augmentation(mean, std), np.zeros((1, 4, 4, 2)))


EVERYTHING = Augmentation(crop_padding=2, cutout=3)


def test_batch_is_a_function_of_its_key_under_jit_too():
    data = random_data()
    plain = augmented_batch(jax.random.key(0), data, jnp.arange(6), EVERYTHING)
    np.testing.assert_allclose(
        plain.inputs, batch_of(EVERYTHING, data).inputs, rtol=1e-5, atol=1e-6
    )
    assert (plain.inputs != batch_of(EVERYTHING, data, seed=1).inputs).any()


def test_batch_under_vmap_equals_one_after_another():
    data, rows = random_data(), jnp.arange(6)
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(lambda key: augmented_batch(key, data, rows, EVERYTHING)))(keys)
    for number, key in enumerate(keys):
        alone = jitted_batch(key, data, rows, EVERYTHING)
        np.testing.assert_allclose(together.inputs[number], alone.inputs, rtol=1e-5, atol=1e-6)


def test_whole_data_set_stays_uint8():
    """No array of floats in the step is as large as the data set."""
    data = random_data(size=1000, shape=(4, 4, 1))
    traced = jax.make_jaxpr(
        lambda key, data, rows: augmented_batch(key, data, rows, EVERYTHING._replace(mean=(0.0,)))
    )
    sizes = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(
                v.aval.size for v in equation.outvars if jnp.issubdtype(v.aval.dtype, jnp.floating)
            )
            for value in equation.params.values():
                if hasattr(getattr(value, "jaxpr", value), "eqns"):
                    visit(getattr(value, "jaxpr", value))

    visit(traced(jax.random.key(0), data, jnp.arange(2)).jaxpr)
    assert sizes and max(sizes) < data.images.size / 10


@pytest.mark.parametrize("size, batch_size", [(10, 5), (11, 4), (7, 7), (9, 1)])
def test_epoch_is_a_permutation_without_repetition(size, batch_size):
    rows = epoch_batches(0, 3, size, batch_size)
    assert rows.shape == (size // batch_size, batch_size) and rows.dtype == np.int32
    flat = rows.ravel().tolist()
    assert len(set(flat)) == len(flat) and set(flat) <= set(range(size))


def test_epoch_is_a_function_of_seed_and_epoch():
    assert (epoch_batches(1, 2, 50, 5) == epoch_batches(1, 2, 50, 5)).all()
    orders = [
        tuple(epoch_batches(seed, epoch, 50, 5).ravel()) for seed in range(4) for epoch in range(4)
    ]
    assert len(set(orders)) == 16


def test_example_left_out_changes_from_epoch_to_epoch():
    left_out = {
        next(iter(set(range(5)) - set(epoch_batches(0, epoch, 5, 2).ravel())))
        for epoch in range(40)
    }
    assert left_out == set(range(5))


def test_independent_batches_repeat_nothing_within_a_row_and_cover_all():
    rows = independent_batches(0, 1, 10, 4, 60)
    assert rows.shape == (60, 4) and rows.dtype == np.int32
    assert all(len(set(row)) == 4 for row in rows.tolist())
    assert set(rows.ravel().tolist()) == set(range(10))
    assert len(set(rows[:3].ravel().tolist())) < 12  # not an epoch pass
    assert (rows == independent_batches(0, 1, 10, 4, 60)).all()
    assert (rows != independent_batches(0, 2, 10, 4, 60)).any()
    assert (rows != independent_batches(1, 1, 10, 4, 60)).any()


@pytest.mark.parametrize("size", [2, 10, 11])
def test_halves_are_disjoint_and_complete(size):
    labels = np.arange(size, dtype=np.int32)
    data = Data(
        np.broadcast_to(labels[:, None, None, None], (size, 2, 2, 1)).astype(np.uint8), labels
    )
    train, valid = split_half(data, seed=0)
    assert sorted([*train.labels, *valid.labels]) == list(range(size))
    assert len(train.labels) == size // 2
    for half in (train, valid):
        assert half.images.dtype == np.uint8
        np.testing.assert_array_equal(half.images[:, 0, 0, 0], half.labels)


def test_halves_are_a_function_of_the_seed():
    data = random_data(size=30)
    one, again, other = (split_half(data, seed)[0].labels.tolist() for seed in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int32])
def test_check_returns_int32_labels_on_the_host(dtype):
    data = check_data(np.zeros((3, 2, 2, 1), np.uint8), np.asarray([0, 1, 2], dtype), 3)
    assert data.labels.dtype == np.int32 and isinstance(data.images, np.ndarray)


IMAGES, LABELS = np.zeros((4, 2, 2, 3), np.uint8), np.arange(4)
BAD_DATA = {
    "floats": ((IMAGES / 255.0, LABELS), "uint8.*got float64.*0..255"),
    "int64": ((IMAGES.astype(np.int64), LABELS), "uint8.*got int64"),
    "no channels": ((IMAGES[..., 0], LABELS), r"\[4, 2, 2\].*last axis of 1"),
    "one image": ((IMAGES[0], LABELS), r"\[2, 2, 3\]"),
    "no images": ((IMAGES[:0], LABELS[:0]), r"\[0, 2, 2, 3\]"),
    "lists of text": ((["a"], ["b"]), "uint8"),
    "too few labels": ((IMAGES, LABELS[:3]), r"4 whole numbers.*\[3\]"),
    "one-hot labels": ((IMAGES, np.eye(4, dtype=int)), r"\[4, 4\]"),
    "float labels": ((IMAGES, LABELS * 1.0), "whole numbers.*float64"),
    "bool labels": ((IMAGES, LABELS > 1), "whole numbers.*bool"),
    "negative labels": ((IMAGES, LABELS - 1), r"got -1\.\.2"),
    "labels from one": ((IMAGES, LABELS + 1, 4), r"0\.\.3, got 1\.\.4"),
    # As int32 these would be 0 and 1, and -1 and 0.
    "labels of more than 32 bits": ((IMAGES, LABELS % 2 + 2**33), r"got 8589934592\.\.8589934593"),
    "labels of 32 bits": ((IMAGES, (LABELS % 2 + 2**32 - 1).astype(np.uint64)), "got 4294967295"),
    "labels for too many classes": ((IMAGES, LABELS + 2**32, 2**40), r"0\.\.2147483646, got 429"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_with_what_was_given(name):
    given, reason = BAD_DATA[name]
    with pytest.raises(ValueError, match=reason):
        check_data(*given)


@pytest.mark.parametrize(
    ("shape", "likely"),
    [
        ((2, 4, 32, 32), "4 x 32 pixels of 32 channels.*transpose"),
        ((2, 3, 28, 64), "3 x 28 pixels of 64 channels.*transpose"),
        ((2, 1, 8, 8), "1 x 8 pixels of 8 channels.*transpose"),
        ((2, 32, 32, 4), None),
        ((2, 4, 4, 3), None),
        ((2, 3, 3, 103), None),  # a patch of many bands
        ((2, 4, 32, 3), None),
    ],
)
def test_channels_that_are_likely_not_last_are_hinted_at(shape, likely):
    images, labels = np.zeros(shape, np.uint8), np.arange(2)
    if likely:
        with pytest.warns(UserWarning, match=likely):
            check_data(images, labels)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_data(images, labels)


BAD_AUGMENTATIONS = {
    "mean": (Augmentation(mean=(0.5, 0.5)), "mean.*2 channels.*3"),
    "std": (Augmentation(std=(0.5, 0.5)), "std.*2 channels.*3"),
    "no std": (Augmentation(std=(0.0, 1.0, 1.0)), "positive"),
    "negative std": (Augmentation(std=(-1.0,)), "positive"),
    "crop": (Augmentation(crop_padding=-1), "crop_padding"),
    "cutout": (Augmentation(cutout=-1), "cutout"),
}


@pytest.mark.parametrize("name", BAD_AUGMENTATIONS)
def test_bad_augmentation_is_refused_with_what_was_given(name):
    augmentation, reason = BAD_AUGMENTATIONS[name]
    with pytest.raises(ValueError, match=reason):
        check_augmentation(augmentation, IMAGES)


def test_a_policy_comes_between_flip_and_normalising_and_cutout_is_last():
    """A policy that adds one to each pixel it is given, and a cutout that stays the mean."""
    data = random_data(64, (6, 6, 1))

    def brighter(key, images):
        assert images.dtype == jnp.uint8
        return images // 2 + jax.random.randint(key, (len(images), 1, 1, 1), 0, 2).astype(jnp.uint8)

    augmentation = PIXELS._replace(flip=True, cutout=4, policy=brighter)
    found = np.asarray(batch_of(augmentation, data).inputs)
    added = set()
    for image, before in zip(found, np.asarray(data.images) // 2, strict=True):
        matches = [
            (flipped, one)
            for flipped in (before, before[:, ::-1])
            for one in (0, 1)
            if ((np.rint(image) == flipped + one) | (image == 0)).all()
        ]
        assert len(matches) == 1 and (image == 0).any()
        added.add(matches[0][1])
    assert added == {0, 1}
