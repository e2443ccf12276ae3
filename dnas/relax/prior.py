"""A fixed prior over the ops of each edge, or a mask of them."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dnas.base import ABSENT, Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, read_mix


@checked
def with_prior(relaxation: Relaxation, prior: ArrayLike | Sequence[Any]) -> Relaxation:
    """Returns a relaxation that adds a constant to the logits of another one, log probabilities of
    the ops.

    With `softmax` the mix is then proportional to prior * exp(arch). A prior of 0 and
    `dnas.base.ABSENT` is a mask: ops are left out from the start, as P-DARTS and progressive DrNAS
    do from a stage on, https://arxiv.org/abs/1904.12760 and https://arxiv.org/abs/2006.10355. It is
    the only prior that fits `simplex`, whose arch is no logits.

    Args:
      relaxation: any.
      prior: [O], the same for every edge, or [E, O]; finite.

    Raises:
      ValueError: if the prior is not finite; on use if its shape does not fit the choices.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import softmax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> relaxation = with_prior(
      ...     softmax(), jax.numpy.log(jax.numpy.array([1.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]))
      ... )
      >>> mix = relaxation.sample(key, {"ops": jax.numpy.zeros((14, 8))}, choices, 0)
      >>> [round(30 * float(number), 3) for number in mix[0]]
      [1.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]
    """
    added = np.asarray(prior, np.float32)
    if not np.isfinite(added).all():
        raise ValueError(
            f"a prior is finite; for an op that is to be left out give dnas.base.ABSENT = {ABSENT},"
            f" got {added}"
        )

    def with_prior_added(arch: Logits, choices: Choices) -> Logits:
        if added.shape not in (shapes := (choices.shape[1:], choices.shape)):
            raise ValueError(
                f"the prior has shape {added.shape}; for these choices it is {shapes[0]} or"
                f" {shapes[1]}"
            )
        # A logit that is absent twice over stays as it is instead of growing without bound under
        # nested priors.
        return {**arch, "ops": jnp.maximum(arch["ops"] + added, ABSENT)}

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        return relaxation.sample(key, with_prior_added(arch, choices), choices, step)

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(relaxation, with_prior_added(arch, choices), choices)

    return Relaxation(relaxation.init, sample, read)
