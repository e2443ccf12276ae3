"""Weights for wider candidates out of those of narrower ones."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree


def widen_weights(weights: PyTree, wider: PyTree) -> PyTree:
    """Returns `weights` with the shapes of `wider`: new channels are copies of old ones, in turn.

    What a layer reads from copies is divided by their number, so that an op whose input has its
    channels repeated computes what it did, repeated. Net2WiderNet,
    https://arxiv.org/abs/1511.05641, as DrNAS uses it between its stages,
    https://arxiv.org/abs/2006.10355, when the candidates of partial channels get more of them.

    Args:
      weights, wider: trees of arrays of one structure; the last axis of an array is that of
        outputs, the one before it that of inputs. Of `wider` only the shapes are read.

    Raises:
      ValueError: if the trees differ in structure, or an array of `wider` is smaller.
    """

    def divided(repeated: Array, array: Array) -> Array:
        if repeated.ndim < 2 or repeated.shape[-2] == array.shape[-2]:
            return repeated
        copied = np.arange(repeated.shape[-2]) % array.shape[-2]
        return repeated / np.bincount(copied)[copied][:, None]

    return jax.tree.map(divided, repeat_channels(weights, wider), weights)


def repeat_channels(arrays: PyTree, wider: PyTree) -> PyTree:
    """Returns `arrays` with the shapes of `wider`, new channels copies of old ones, in turn, and
    nothing divided.

    For what an optimiser keeps of weights that are widened, as the released code of DrNAS carries
    momentum on.

    Args:
      arrays, wider: as in `widen_weights`; what has the same shape in both stays as it is.

    Raises:
      ValueError: as `widen_weights`.

    Example:
      >>> repeat_channels(
      ...     {"count": jnp.array(7), "trace": jnp.array([1.0, 2.0])},
      ...     {"count": jnp.array(0), "trace": jnp.zeros(4)},
      ... )["trace"].tolist()
      [1.0, 2.0, 1.0, 2.0]
    """

    def repeat(array: Array, like: Array) -> Array:
        if array.ndim != like.ndim or any(
            new < old for old, new in zip(array.shape, like.shape, strict=True)
        ):
            raise ValueError(f"an array of shape {array.shape} cannot be widened to {like.shape}")
        for axis, (old, new) in enumerate(zip(array.shape, like.shape, strict=True)):
            if new > old:
                array = jnp.take(array, np.arange(new) % old, axis)
        return array

    if jax.tree.structure(arrays) != jax.tree.structure(wider):
        raise ValueError(
            "weights are widened to those of the same supernet with other partial_channels; these"
            " have other names"
        )
    return jax.tree.map(repeat, arrays, wider)
