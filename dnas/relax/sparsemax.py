"""Sparsemax, the projection onto the simplex. https://arxiv.org/abs/1602.02068"""

import jax.numpy as jnp
from jax import lax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, normal_logits


@checked
def sparsemax(*, init_scale: float = 1e-3) -> Relaxation:
    """Returns the relaxation whose rows are the points of the simplex nearest to the rows of arch;
    it draws nothing.

    Weights below a threshold are exactly zero and have no gradient. TangleNAS's "DARTS V2" uses it
    in place of softmax, https://arxiv.org/abs/2312.10440.

    Args:
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = sparsemax().sample(key, {"ops": 10 * jax.numpy.eye(14, 8)}, choices, 0)
      >>> mix[0].tolist()
      [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del key, choices, step
        return _project(arch["ops"])

    return Relaxation(normal_logits(init_scale), sample)


def _project(logits: Array) -> Array:
    """Algorithm 1 of the paper, over the last axis.

    Given the support S, a row is max(z - threshold, 0) with threshold = (sum_S z - 1) / |S|. Only
    this formula has a gradient, diag(s) - s s' / |S| with s the indicator of S, since S is constant
    almost everywhere.
    """
    z = logits - lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    falling = -jnp.sort(-lax.stop_gradient(z), axis=-1)
    sums = jnp.cumsum(falling, axis=-1)
    ranks = jnp.arange(1, z.shape[-1] + 1)
    size = (1 + ranks * falling > sums).sum(axis=-1, keepdims=True)
    support = lax.stop_gradient(z) > (jnp.take_along_axis(sums, size - 1, axis=-1) - 1) / size
    threshold = (jnp.where(support, z, 0.0).sum(axis=-1, keepdims=True) - 1) / support.sum(
        axis=-1, keepdims=True
    )
    return jnp.where(support, jnp.maximum(z - threshold, 0.0), 0.0)
