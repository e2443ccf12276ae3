"""Genotypes drawn uniformly, one a step: what random search with weight sharing trains.
https://arxiv.org/abs/1902.07638"""

import jax
import jax.numpy as jnp

from dnas.base import Array, Key, Logits
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present


def uniform_genotypes() -> Relaxation:
    """Returns the relaxation whose mix is that of a genotype drawn uniformly, whatever arch is.

    A group of rows keeps as many of them as genotypes do, each with one of its options that compute
    something; where every row keeps an option, it may be one that computes nothing. So a supernet
    is trained on what will be chosen from: `random_genotype` has the same distribution, and so have
    genotypes that are drawn from the mix which is read, the uniform one. Dropped options are not
    drawn.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> relaxation = uniform_genotypes()
      >>> mix = relaxation.sample(key, relaxation.init(key, choices), choices, 0)
      >>> [int(mix[jax.numpy.array(group)].sum()) for group in choices.groups]
      [2, 2, 2, 2]
    """

    def init(key: Key, choices: Choices) -> Logits:
        del key
        return {"ops": jnp.zeros(choices.shape)}

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        del step
        options_key, rows_key = jax.random.split(key)
        possible = _possible(arch, choices)
        drawn = jnp.where(possible, jax.random.uniform(options_key, choices.shape), -1.0)
        mix = jax.nn.one_hot(drawn.argmax(axis=-1), choices.shape[1]) * possible
        if choices.keep is None:
            return mix
        strengths = jnp.where(
            possible.any(axis=-1), jax.random.uniform(rows_key, (len(choices.rows),)), -1.0
        )
        stronger = (strengths[None, :] > strengths[:, None]) & choices.compete
        return mix * (stronger.sum(axis=-1) < choices.keep)[:, None]

    def read(arch: Logits, choices: Choices) -> Array:
        possible = _possible(arch, choices)
        return possible / jnp.maximum(possible.sum(axis=-1, keepdims=True), 1)

    return Relaxation(init, sample, read)


def _possible(arch: Logits, choices: Choices) -> Array:
    """bool [E, O]: what a row may have."""
    allowed = choices.allowed if choices.keep is None else choices.computes
    return present(arch["ops"]) & allowed
