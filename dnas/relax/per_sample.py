"""A draw of the relaxation for each image of a batch instead of one for all."""

import jax

from dnas.base import Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, read_mix


@checked
def per_sample(relaxation: Relaxation, batch_size: int) -> Relaxation:
    """Returns a relaxation that draws from another one independently for each image: its mix is [E,
    O, B].

    More draws a step make for a gradient of arch with less noise. Every op then runs on the whole
    batch: hard samples save no computation. SNAS, https://arxiv.org/abs/1812.09926, draws one an
    edge and step, which is the relaxation itself.

    Args:
      relaxation: one that draws at random, such as `gumbel_softmax()`.
      batch_size: B.

    Raises:
      ValueError: if batch_size is below 1.

    Example:
      >>> import dnas, jax
      >>> from dnas.relax import gumbel_softmax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> relaxation = per_sample(gumbel_softmax(), 64)
      >>> relaxation.sample(key, relaxation.init(key, choices), choices, 0).shape
      (14, 8, 64)
    """
    if batch_size < 1:
        raise ValueError(f"a batch has at least one image, got batch_size = {batch_size}")

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        keys = jax.random.split(key, batch_size)
        return jax.vmap(lambda key: relaxation.sample(key, arch, choices, step), out_axes=-1)(keys)

    def read(arch: Logits, choices: Choices) -> Array:
        return read_mix(relaxation, arch, choices)

    return Relaxation(relaxation.init, sample, read)
