"""Weights for wider candidates out of those of narrower ones."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import PyTree


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

    def widen(array, shape):
        if array.ndim != len(shape) or any(
            new < old for old, new in zip(array.shape, shape, strict=True)
        ):
            raise ValueError(f"an array of shape {array.shape} cannot be widened to {shape}")
        for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
            if new > old:
                copied = np.arange(new) % old
                array = jnp.take(array, copied, axis)
                if axis == array.ndim - 2:
                    array = array / np.bincount(copied)[copied][:, None]
        return array

    if jax.tree.structure(weights) != jax.tree.structure(wider):
        raise ValueError(
            "weights are widened to those of the same supernet with other partial_channels; these"
            " have other names"
        )
    return jax.tree.map(lambda array, like: widen(array, like.shape), weights, wider)
