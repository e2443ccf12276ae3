"""The task of images: halves, batches and scores, and what does not fit is refused at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas import tasks
from dnas.tasks.data import normalize

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40) % 3


def test_two_levels_learn_from_disjoint_halves_and_one_from_all():
    task = tasks.images(IMAGES, LABELS)
    halves = task.feeds(0, 4, 2)
    (whole,) = task.feeds(0, 4, 1)
    both = np.concatenate([feed.data.images for feed in halves])
    assert sorted(map(bytes, both)) == sorted(map(bytes, IMAGES))
    np.testing.assert_array_equal(whole.data.images, IMAGES)
    assert [feed.steps for feed in (*halves, whole)] == [5, 5, 10]


def test_the_weights_see_every_image_once_an_epoch_and_arch_draws_anew():
    weights, arch = tasks.images(IMAGES, LABELS).feeds(0, 5, 2)
    for epoch in range(3):
        assert sorted(weights.rows(epoch).ravel()) == list(range(20))
        assert arch.rows(epoch).shape == (4, 5)
        assert all(len(set(rows)) == 5 for rows in arch.rows(epoch))
    assert (weights.rows(0) != weights.rows(1)).any() and (arch.rows(0) != arch.rows(1)).any()


def test_a_batch_has_the_images_of_its_rows_and_leaves_nothing_to_the_next():
    task = tasks.images(IMAGES, LABELS)
    (feed,) = task.feeds(0, 4, 1)
    batch = feed.batch(jax.device_put(feed.data), np.arange(4), jax.random.key(0), ())
    np.testing.assert_array_equal(batch.targets, LABELS[:4])
    plain = dnas.plain_augmentation(IMAGES)
    np.testing.assert_array_equal(batch.inputs, normalize(jnp.asarray(feed.data.images[:4]), plain))
    assert task.start(dnas.Outputs(np.zeros((1, 3))), 4) == ()


def test_classes_are_those_of_all_labels_or_as_many_as_are_given():
    assert tasks.images(IMAGES, LABELS).num_classes == 3
    assert tasks.images(IMAGES, LABELS, test=(IMAGES[:2], [0, 6])).num_classes == 7
    assert tasks.images(IMAGES, LABELS, num_classes=10).num_classes == 10
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        tasks.images(IMAGES, LABELS, num_classes=2)


def test_test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(6, 8, 1\).*agree"):
        tasks.images(IMAGES, LABELS, test=(IMAGES[:, :6], LABELS))
