"""Ops that are dropped at random during the search: scheduled drop path, and dropout on skip
connections."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, read_mix, value_at


@checked
def drop_ops(
    relaxation: Relaxation, rate: optax.ScalarOrSchedule, *, ops: Sequence[str] | None = None
) -> Relaxation:
    """Returns a relaxation that multiplies entries of another one's mix by Bernoulli(1 - rate) / (1
    - rate).

    Over all ops it is the drop path of RobustDARTS's searches, https://arxiv.org/abs/1909.09656,
    there with a rate that rises linearly, such as `optax.linear_schedule(0.0, 0.3, total_steps)`.
    With ops=("skip_connect",) it is P-DARTS's dropout on skip connections,
    https://arxiv.org/abs/1904.12760, yet by path: there single elements of a skip's output are
    dropped, here all of it, with the same expectation and more variance. One draw holds for the
    whole batch; to draw for each image, wrap the result in `per_sample`. Genotypes are read without
    any of it.

    Args:
      relaxation: any.
      rate: probability that an op is dropped, a number or a schedule of the step that stays below
        1; at 0 the mix is that of the relaxation.
      ops: names of the ops that may be dropped; all unless given.

    Raises:
      ValueError: unless a number lies in [0, 1); on use if an op is not among the options.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import softmax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = drop_ops(softmax(), 0.5, ops=("skip_connect",)).sample(
      ...     key, {"ops": jax.numpy.zeros((14, 8))}, choices, 0
      ... )
      >>> sorted(set(mix[:, 3].tolist())), set(mix[:, 4].tolist())
      ([0.0, 0.25], {0.125})
    """
    if not callable(rate) and not 0 <= rate < 1:
        raise ValueError(f"the rate at which ops are dropped lies in [0, 1), got {rate}")

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        names = choices.options if ops is None else tuple(ops)
        if unknown := set(names) - set(choices.options):
            raise ValueError(
                f"ops {sorted(unknown)} are not among the options; choose from:"
                f" {', '.join(choices.options)}"
            )
        # The relaxation gets the key itself, so that at rate 0 its draws are those it has alone.
        # The fold differs between sets of ops: one wrapper inside another drops independently.
        drop_key = jax.random.fold_in(key, zlib.crc32(" ".join(names).encode()))
        mix = relaxation.sample(key, arch, choices, step)
        keep = 1 - value_at(step, rate)
        factors = jax.random.bernoulli(drop_key, keep, mix.shape) / keep
        may_drop = np.isin(choices.options, names).reshape(-1, *[1] * (mix.ndim - 2))
        return mix * jnp.where(may_drop, factors, 1.0)

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(relaxation, arch, choices)

    return Relaxation(relaxation.init, sample, read)
