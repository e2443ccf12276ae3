"""Scores by how the gradients of different examples agree."""

import jax
import jax.numpy as jnp

from dnas.base import Array, Batch, Mix, PyTree
from dnas.model import Model
from dnas.scores.forward import loss_of
from dnas.scores.layers import sum_over_layers


def gradsign(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the sum over the weights of |sum over examples of sign(g)|, with g the gradient of an
    example alone, https://arxiv.org/abs/2110.08616, algorithm 1.

    Norms use the statistics of that one example.
    """

    def gradient(one: Batch) -> PyTree:
        alone = jax.tree.map(lambda array: array[None], one)
        return jax.grad(loss_of(model, variables, mix, alone))(variables["params"])

    def add_signs(total: PyTree, one: Batch) -> tuple[PyTree, None]:
        return jax.tree.map(lambda sum, g: sum + jnp.sign(g), total, gradient(one)), None

    zeros = jax.tree.map(jnp.zeros_like, variables["params"])
    signs, _ = jax.lax.scan(add_signs, zeros, batch._replace(key=None))
    return sum_over_layers(lambda own: jnp.abs(own).sum(), signs)


def zico(model: Model, variables: PyTree, mix: Mix, batch: Batch, *, batches: int = 2) -> Array:
    """Returns the sum over layers of log sum_w mean |g| / std g, with mean and deviation over the
    gradients of several batches, https://arxiv.org/abs/2301.11300, eq. 18.

    As in its released code the deviation is that of g, not of |g|, weights whose gradient is always
    the same are left out, and a layer of such weights alone counts as 0.

    Args:
      batches: into which the batch is cut.

    Raises:
      ValueError: if it cannot be cut so.
    """
    size = len(batch.targets)
    if batches < 2 or size % batches:
        raise ValueError(
            f"{size} examples are no {batches} batches of equal size; give at least two batches,"
            " and a multiple of their number of examples"
        )

    def cut(array: Array) -> Array:
        return array.reshape(batches, size // batches, *array.shape[1:])

    def gradient(own: Batch) -> PyTree:
        return jax.grad(loss_of(model, variables, mix, own))(variables["params"])

    found = jax.lax.map(gradient, jax.tree.map(cut, batch._replace(key=None)))
    spread = jax.tree.map(lambda own: own.std(0), found)
    mean = jax.tree.map(lambda own: jnp.abs(own).mean(0), found)

    def of_layer(mean: Array, spread: Array) -> Array:
        changes = spread > 0
        total = jnp.where(changes, mean / jnp.where(changes, spread, 1.0), 0.0).sum()
        return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1.0)), 0.0)

    return sum_over_layers(of_layer, mean, spread)
