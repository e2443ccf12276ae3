"""The relaxation of FairDARTS: ops do not compete. https://arxiv.org/abs/1911.12126."""

import jax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, normal_logits


@checked
def sigmoid(*, init_scale: float = 0.0) -> Relaxation:
    """Returns the relaxation mix[e, o] = 1 / (1 + exp(-arch[e, o])); it draws nothing at random.

    Raising one logit leaves the weights of the other ops as they are. Goes with the loss
    `dnas.arch_losses.zero_one`, which drives the weights to 0 or 1.

    Args:
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from;
        FairDARTS starts from zeros.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = sigmoid().sample(key, sigmoid().init(key, choices), choices, 0)
      >>> mix.shape, float(mix[0, 0])
      ((14, 8), 0.5)
    """

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del key, choices, step
        return jax.nn.sigmoid(arch["ops"])

    return Relaxation(normal_logits(init_scale), sample)
