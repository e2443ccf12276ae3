"""A fixed prior over the ops of each edge, or a mask of them."""

import jax.numpy as jnp
import numpy as np

from dnas.base import ABSENT, ArchRows, Array, Key
from dnas.relax.relaxation import Relaxation, op_logits, read_mix, replace_op_logits
from dnas.space import CellSpec


def with_prior(relaxation: Relaxation, prior: Array) -> Relaxation:
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
      ValueError: if the prior is not finite; on use if its shape does not fit the cell.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import softmax
      >>> spec, key = dnas.SPACES["darts"].cells["normal"], jax.random.key(0)
      >>> relaxation = with_prior(
      ...     softmax(), jax.numpy.log(jax.numpy.array([1.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]))
      ... )
      >>> mix = relaxation.sample(key, jax.numpy.zeros((14, 8)), spec, 0)
      >>> [round(30 * float(number), 3) for number in mix[0]]
      [1.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]
    """
    prior = np.asarray(prior, np.float32)
    if not np.isfinite(prior).all():
        raise ValueError(
            f"a prior is finite; for an op that is to be left out give dnas.base.ABSENT = {ABSENT},"
            f" got {prior}"
        )

    def with_prior_added(arch: ArchRows, spec: CellSpec) -> ArchRows:
        if prior.shape not in (shapes := ((len(spec.ops),), (len(spec.edges), len(spec.ops)))):
            raise ValueError(
                f"the prior has shape {prior.shape}; for this cell it is {shapes[0]} or {shapes[1]}"
            )
        # A logit that is absent twice over stays as it is instead of growing without bound under
        # nested priors.
        return replace_op_logits(arch, jnp.maximum(op_logits(arch) + prior, ABSENT))

    def sample(key: Key, arch: ArchRows, spec: CellSpec, step: Array) -> Array:
        return relaxation.sample(key, with_prior_added(arch, spec), spec, step)

    def read(arch: ArchRows, spec: CellSpec) -> Array:
        return read_mix(relaxation, with_prior_added(arch, spec), spec)

    return Relaxation(relaxation.init, sample, read)
