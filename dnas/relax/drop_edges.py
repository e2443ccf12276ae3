"""Drop path of a supernet: what an edge makes of an image is dropped at random, as SNAS searches.
https://arxiv.org/abs/1812.09926"""

import jax
import optax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, read_mix, value_at

_DROPS = 2**31 + 2  # a part of the key that no split makes, nor the search


@checked
def drop_edges(relaxation: Relaxation, rate: optax.ScalarOrSchedule, batch_size: int) -> Relaxation:
    """Returns a relaxation that multiplies every row of another one's mix by Bernoulli(1 - rate) /
    (1 - rate), drawn for each image: its mix is [E, O, B].

    The released code of SNAS drops so the sum of all ops of an edge, at a rate of 0.3 from the
    first step on, https://arxiv.org/abs/1812.09926. There each cell draws for itself; here all
    cells of a kind, which share a mix, drop alike. Single ops are dropped by `drop_ops`. Genotypes
    are read without any of it.

    Args:
      relaxation: any.
      rate: probability that an edge is dropped for an image, a number or a schedule of the step
        that stays below 1.
      batch_size: B.

    Raises:
      ValueError: unless a number lies in [0, 1), or if batch_size is below 1.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import softmax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = drop_edges(softmax(), 0.5, 64).sample(
      ...     key, {"ops": jax.numpy.zeros((14, 8))}, choices, 0
      ... )
      >>> mix.shape, sorted(set(mix.sum(1).ravel().tolist()))
      ((14, 8, 64), [0.0, 2.0])
    """
    if not callable(rate) and not 0 <= rate < 1:
        raise ValueError(f"the rate at which edges are dropped lies in [0, 1), got {rate}")
    if batch_size < 1:
        raise ValueError(f"a batch has at least one image, got batch_size = {batch_size}")

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        # The relaxation gets the key itself, so that its draws are those it has alone.
        mix = relaxation.sample(key, arch, choices, step)
        of_images = mix.reshape(*mix.shape[:2], -1)  # [E, O, 1 or B]
        keep = 1 - value_at(step, rate)
        shape = (len(choices.rows), 1, batch_size)
        drop_key = jax.random.fold_in(key, _DROPS)
        return of_images * jax.random.bernoulli(drop_key, keep, shape) / keep

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(relaxation, arch, choices)

    return Relaxation(relaxation.init, sample, read)
