"""The task of images: halves, batches and scores, and what does not fit is refused at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas import tasks
from dnas.tasks.data import normalize
from dnas.tasks.task import cross_entropy, smoothed_loss

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


LOGITS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
BATCH = dnas.base.Batch(jnp.zeros((6, 8, 8, 1)), jnp.asarray(LABELS[:6]))


def test_no_smoothing_is_the_plain_loss_itself():
    assert tasks.images(IMAGES, LABELS).loss is cross_entropy
    plain = cross_entropy(dnas.Outputs(LOGITS), BATCH)
    none = tasks.images(IMAGES, LABELS, label_smoothing=0.0).loss(dnas.Outputs(LOGITS), BATCH)
    jax.tree.map(np.testing.assert_array_equal, none, plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_a_smoothed_label_is_spread_evenly_over_all_classes(smoothing):
    log_probabilities = jax.nn.log_softmax(LOGITS)
    right = log_probabilities[np.arange(6), LABELS[:6]]
    expected = -((1 - smoothing) * right + smoothing * log_probabilities.mean(-1)).mean()
    loss, metrics = smoothed_loss(jnp.asarray(LOGITS), BATCH.targets, smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["accuracy"] == cross_entropy(dnas.Outputs(LOGITS), BATCH)[1]["accuracy"]
    if smoothing:
        task = tasks.images(IMAGES, LABELS, label_smoothing=smoothing)
        np.testing.assert_array_equal(task.loss(dnas.Outputs(LOGITS), BATCH)[0], loss)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_smoothing_that_is_no_part_is_refused(smoothing):
    with pytest.raises(ValueError, match="label_smoothing is a"):
        tasks.images(IMAGES, LABELS, label_smoothing=smoothing)


def test_a_policy_that_cannot_have_the_images_is_refused_before_any_work():
    images = np.zeros((4, 8, 8, 2), np.uint8)
    augmentation = dnas.Augmentation((0.5,), (0.5,), policy=tasks.rand_augment())
    with pytest.raises(ValueError, match="2 channels"):
        tasks.images(images, np.zeros(4, int), augmentation=augmentation)
