"""The relaxation of DARTS: a softmax over the ops of each edge. Section 2.2, eq. 2,
https://arxiv.org/abs/1806.09055."""

import jax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, normal_logits


@checked
def softmax(*, init_scale: float = 1e-3) -> Relaxation:
    """Returns the relaxation mix[e, o] = exp(arch[e, o]) / sum_k exp(arch[e, k]); it draws nothing
    at random.

    Args:
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = softmax().sample(key, softmax().init(key, choices), choices, 0)
      >>> mix.shape, float(mix[0].sum().round(5))
      ((14, 8), 1.0)
    """

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del key, choices, step
        return jax.nn.softmax(arch["ops"], axis=-1)

    return Relaxation(normal_logits(init_scale), sample)
