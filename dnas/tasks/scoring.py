"""Accuracy on a whole data set."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.tasks.data import Augmentation, Data, normalize


def make_accuracy(
    logits: Callable[[PyTree, Array], Array],
    data: Data,
    augmentation: Augmentation,
    *,
    batch_size: int = 256,
) -> Callable[[PyTree], float]:
    """Returns variables -> accuracy in 0..1 on the images, which are only normalised; compiled
    once.

    Args:
      logits: (variables, images [B, H, W, C]) -> logits [B, num_classes].
      data: images uint8 [N, H, W, C] and labels [N]; every image counts, also those of the last,
        smaller batch.
    """
    size = len(data.labels)
    batch_size = min(batch_size, size)
    batches = -(-size // batch_size)
    indices = np.arange(batches * batch_size, dtype=np.int32).reshape(batches, batch_size)

    @jax.jit
    def count_correct(variables, data, indices):
        def of_batch(rows):
            found = logits(variables, normalize(data.images[rows % size], augmentation)).argmax(-1)
            return jnp.sum((found == data.labels[rows % size]) & (rows < size))

        return jax.lax.map(of_batch, indices).sum()

    resident = jax.device_put(data)
    return lambda variables: int(count_correct(variables, resident, indices)) / size
