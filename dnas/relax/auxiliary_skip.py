"""An auxiliary skip connection beside the candidates of every edge. DARTS-,
https://arxiv.org/abs/2009.01027."""

import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present, read_mix, value_at


@checked
def auxiliary_skip(
    relaxation: Relaxation, weight: optax.ScalarOrSchedule, *, op: str = "skip_connect"
) -> Relaxation:
    """Returns a relaxation with the mix of another one, the weight of a skip connection raised by
    `weight`.

    DARTS-: an edge computes weight * x + sum_o mix[o] * o(x). Where the candidate skip
    is the identity, that is the mixed op itself with the mix of the skip raised by `weight`: no
    other supernet is needed. The auxiliary skip has no logit, and genotypes are read without it.

    Where an edge halves the image, the auxiliary skip is the candidate's own `FactorizedReduce`,
    with the same weights.

    Args:
      relaxation: any.
      weight: beta of the paper, a number or a schedule of the step, which falls to 0.
      op: the name of the skip connection.

    Raises:
      ValueError: on use, unless every row may have the op.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import softmax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = auxiliary_skip(softmax(), 0.5).sample(
      ...     key, {"ops": jax.numpy.zeros((14, 8))}, choices, 0
      ... )
      >>> mix[0, 2:5].tolist()
      [0.125, 0.625, 0.125]
    """

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        if op not in choices.options or not choices.allowed[:, choices.options.index(op)].all():
            raise ValueError(
                f"an auxiliary skip needs the op {op!r} among the candidates of every edge, whose"
                f" options are {', '.join(choices.options)}; take a space that has it everywhere"
            )
        mix = relaxation.sample(key, arch, choices, step)
        # A skip that has been dropped has no weight, and so nothing stands beside the others.
        is_skip = present(arch["ops"]) & (np.asarray(choices.options) == op)
        raised = mix + value_at(step, weight)
        return jnp.where(is_skip.reshape(*mix.shape[:2], *[1] * (mix.ndim - 2)), raised, mix)

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(relaxation, arch, choices)

    return Relaxation(relaxation.init, sample, read)
