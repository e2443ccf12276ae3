"""Images that are told apart: the task of DARTS on CIFAR-10, section 3.1."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Mix, PyTree
from dnas.checks import checked
from dnas.model import Model
from dnas.tasks.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    check_data,
    epoch_batches,
    full_batches,
    independent_batches,
    normalize,
    plain_augmentation,
    split_half,
)
from dnas.tasks.task import Feed, Task, smoothed_cross_entropy


@checked
def images(
    images: Any,
    labels: Any,
    *,
    test: tuple[Any, Any] | None = None,
    num_classes: int | None = None,
    augmentation: Augmentation | None = None,
    label_smoothing: float = 0.0,
) -> Task:
    """Returns the task of classifying images: in a search a random half trains the weights, the
    other half arch.

    Args:
      images: uint8 [N, H, W, C]; labels: [N] from 0.
      test: (images, labels) of the same shape, which a training is judged by.
      num_classes: the largest label plus one unless given.
      augmentation: of training images; test images are only normalised. Unless given, so are all,
        by the mean and deviation of the training images. The published recipe on CIFAR-10 is
        `Augmentation()` in the search and `Augmentation(cutout=16)` after it.
      label_smoothing: part of a label that is spread evenly over all classes in the losses that are
        learnt from, also in that of an auxiliary head; scores are not changed by it.

    Raises:
      ValueError: for images and labels that do not fit each other, and for a label_smoothing that
        is no part.

    Example:
      >>> import numpy as np
      >>> task = images(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 3)
      >>> task.num_classes, task.example.shape, [feed.steps for feed in task.feeds(0, 4, 2)]
      (3, (1, 8, 8, 1), [2, 2])
    """
    loss = smoothed_cross_entropy(label_smoothing)
    data = check_data(images, labels, num_classes)
    held_out = None if test is None else check_data(*test, num_classes)
    if held_out is not None and data.images.shape[1:] != held_out.images.shape[1:]:
        raise ValueError(
            f"training images are {data.images.shape[1:]}, test images"
            f" {held_out.images.shape[1:]}; they must agree"
        )
    if num_classes is None:
        known = [part.labels.max() for part in (data, held_out) if part is not None]
        num_classes = int(max(known)) + 1
    augmentation = plain_augmentation(data.images) if augmentation is None else augmentation
    check_augmentation(augmentation, data.images)

    def batch(data, rows, key, carried):
        del carried
        return augmented_batch(key, data, rows, augmentation)

    def feeds(seed: int, batch_size: int, levels: int) -> tuple[Feed, ...]:
        parts = split_half(data, seed) if levels == 2 else (data,)
        sizes = [len(part.labels) for part in parts]
        steps = full_batches(sizes[0], batch_size)

        def of_weights(epoch: int) -> np.ndarray:
            return epoch_batches(seed, epoch, sizes[0], batch_size)

        def of_arch(epoch: int) -> np.ndarray:
            return independent_batches(seed, epoch, sizes[1], batch_size, steps)

        rows = (of_weights, of_arch)
        return tuple(Feed(part, steps, own, batch) for part, own in zip(parts, rows, strict=False))

    def accuracy(model: Model, data: Data) -> Callable[[PyTree, Mix], float]:
        return make_evaluation(model, data, augmentation)

    def score(model: Model) -> Callable[[PyTree], float]:
        assert held_out is not None
        return make_evaluation(model, held_out, augmentation)

    return Task(
        inputs="images",
        example=jnp.zeros((1, *data.images.shape[1:])),
        num_classes=num_classes,
        feeds=feeds,
        loss=loss,
        accuracy=accuracy,
        sizes={"image_size": data.images.shape[1:3]},
        test=None if held_out is None else score,
    )


@checked
def make_evaluation(
    model: Model, data: tuple[Any, Any], augmentation: Augmentation, *, batch_size: int = 256
) -> Callable[..., float]:
    """Returns (variables, mix={}) -> accuracy in 0..1 on the images, which are only normalised;
    compiled once.

    Args:
      data: (images uint8 [N, H, W, C], labels [N]); every image counts, also those of the last,
        smaller batch.
    """
    data = check_data(*data)
    size = len(data.labels)
    batch_size = min(batch_size, size)
    batches = -(-size // batch_size)
    indices = np.arange(batches * batch_size, dtype=np.int32).reshape(batches, batch_size)

    @jax.jit
    def count_correct(variables, mix, data, indices):
        def of_batch(rows):
            pixels = normalize(data.images[rows % size], augmentation)
            outputs, _ = model.apply(variables, mix, pixels)
            right = outputs.logits.argmax(-1) == data.labels[rows % size]
            return jnp.sum(right & (rows < size))

        return jax.lax.map(of_batch, indices).sum()

    resident = jax.device_put(data)

    def evaluate(variables: PyTree, mix: Mix = {}) -> float:  # noqa: B006
        return int(count_correct(variables, mix, resident, indices)) / size

    return evaluate
