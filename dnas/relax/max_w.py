"""Max-W regularisation of sharpDARTS: the strongest op of an edge has weight one.
https://arxiv.org/abs/1903.09900"""

import jax.numpy as jnp
from jax import lax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present, read_mix
from dnas.relax.softmax import softmax


@checked
def max_w(relaxation: Relaxation | None = None, *, detach: bool = False) -> Relaxation:
    """Returns the relaxation mix[e, o] = 1 - max_k p[e, k] + p[e, o], where p is the mix of another
    one.

    sharpDARTS, https://arxiv.org/abs/1903.09900: each op runs with a weight near one, however many
    there are. Genotypes are read from p, since here the strongest op of every edge has the same
    weight, and edges could not be compared. Dropped ops keep the weight 0.

    Args:
      relaxation: `softmax()` unless given; with weights of at most 1.
      detach: whether the maximum is a constant for the gradient. By default it is not, which is the
        derivative of the equation and what the released code does: the strongest op then gets dL/dp
        = -(the sum of dL/dmix over the others). A comment in that code says that no gradient passes
        through the maximum; with True dL/dp = dL/dmix for every op.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> max_w().sample(key, {"ops": jax.numpy.zeros((14, 8))}, choices, 0)[0].tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    inner = softmax() if relaxation is None else relaxation

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        mix = inner.sample(key, arch, choices, step)
        largest = mix.max(axis=1, keepdims=True)
        largest = lax.stop_gradient(largest) if detach else largest
        kept = present(arch["ops"]).reshape(*mix.shape[:2], *[1] * (mix.ndim - 2))
        return jnp.where(kept, 1 - (largest - mix), 0.0)

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(inner, arch, choices)

    return Relaxation(inner.init, sample, read)
