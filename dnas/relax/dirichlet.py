"""The relaxation of DrNAS: mixes drawn from a Dirichlet distribution, one an edge.
https://arxiv.org/abs/2006.10355"""

import jax
import jax.numpy as jnp

from dnas.base import ABSENT, Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, normal_logits, present

# Logits below it count as it: with concentrations under 1e-35 float32 draws become NaN.
_LOWEST = -50.0


def concentration(logits: Array) -> Array:
    """Returns elu(logits) + 1, positive, as DrNAS makes the parameters of a Dirichlet distribution.

    Below zero that is exp(logits), computed as such: elu(-20) + 1 would round to zero.

    Example:
      >>> [round(float(number), 7) for number in concentration(jnp.array([0.0, 1.0, -1.0]))]
      [1.0, 2.0, 0.3678795]
    """
    # Not a clip from above, which would halve the gradient at zero, where searches start.
    below = jnp.exp(jnp.where(logits > 0, 0.0, jnp.maximum(logits, _LOWEST)))
    return jnp.where(logits > 0, logits + 1, below)


@checked
def dirichlet(*, init_scale: float = 1e-3) -> Relaxation:
    """Returns the relaxation that draws each row of the mix from Dir(elu(arch) + 1), with the
    pathwise gradient.

    DrNAS, https://arxiv.org/abs/2006.10355. Genotypes are read from the mean, concentration / sum,
    where the released code has softmax(arch): the order of the ops of an edge is the same, that of
    edges need not be. A dropped op takes no part in the draw. For DrNAS's penalties see
    `dirichlet_kl` and `l2` in `dnas.arch_losses`.

    Args:
      init_scale: standard deviation of the normal distribution that arch [E, O] is drawn from; at
        zero a row is uniform on the simplex.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = dirichlet().sample(key, dirichlet().init(key, choices), choices, 0)
      >>> mix.shape, float(mix[0].sum().round(5))
      ((14, 8), 1.0)
    """

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del choices, step
        kept = present(arch["ops"])
        logarithms = jax.random.loggamma(key, concentration(jnp.where(kept, arch["ops"], 0.0)))
        return jax.nn.softmax(jnp.where(kept, logarithms, ABSENT), axis=-1)

    def read(arch: Logits, choices: Choices) -> Array:
        del choices
        kept = present(arch["ops"])
        logarithms = jnp.log(concentration(jnp.where(kept, arch["ops"], 0.0)))
        return jax.nn.softmax(jnp.where(kept, logarithms, ABSENT), axis=-1)

    return Relaxation(normal_logits(init_scale), sample, read)
