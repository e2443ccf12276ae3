"""Edge normalisation of PC-DARTS: a weight for every edge beside those of its ops.
https://arxiv.org/abs/1907.05737"""

import jax
import jax.numpy as jnp

from dnas.base import ABSENT, Array, Key, Logits
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present, read_mix
from dnas.relax.softmax import softmax


def edge_weights(relaxation: Relaxation | None = None, *, init_scale: float = 1e-3) -> Relaxation:
    """Returns a relaxation with the mix of another one, each row multiplied by the weight of its
    edge.

    The weights are the softmax of beta over the edges that enter the same node, PC-DARTS's section
    on edge normalisation, https://arxiv.org/abs/1907.05737: those of a node sum to one, so that
    with equal beta a node is the mean over its edges where DARTS has the sum. arch is {"ops":
    logits [E, O], "edges": beta [E]}. Genotypes are read from the product, as the paper has it. An
    edge whose ops have all been dropped takes no part in the softmax. Where no rows compete, there
    are no such weights.

    Args:
      relaxation: `softmax()` unless given; any other that has no edge weights yet.
      init_scale: standard deviation of the normal distribution that beta is drawn from.

    Raises:
      ValueError: on init, if the relaxation has edge weights of its own.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> mix = edge_weights().sample(key, edge_weights().init(key, choices), choices, 0)
      >>> mix.shape, float(mix[jax.numpy.array(choices.groups[-1])].sum().round(5))
      ((14, 8), 1.0)
    """
    inner = softmax() if relaxation is None else relaxation

    def init(key: Key, choices: Choices) -> Logits:
        ops_key, edges_key = jax.random.split(key)
        arch = inner.init(ops_key, choices)
        if "edges" in arch:
            raise ValueError("the relaxation has edge weights already; wrap one without")
        if not choices.groups:  # no rows compete for a place
            return arch
        return {**arch, "edges": init_scale * jax.random.normal(edges_key, (len(choices.rows),))}

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        return _scaled(inner.sample(key, _without_edges(arch), choices, step), arch, choices)

    def read(arch: Logits, choices: Choices) -> Array:
        return _scaled(read_mix(inner, _without_edges(arch), choices), arch, choices)

    return Relaxation(init, sample, read)


def _without_edges(arch: Logits) -> Logits:
    return {name: part for name, part in arch.items() if name != "edges"}


def _scaled(mix: Array, arch: Logits, choices: Choices) -> Array:
    """mix [E, O] or [E, O, B] times the edge weights."""
    if "edges" not in arch:
        return mix
    beta = jnp.where(present(arch["ops"]).any(axis=-1), arch["edges"], ABSENT)
    siblings = jnp.where(choices.compete, beta, -jnp.inf)
    weights = jnp.exp(beta - jax.nn.logsumexp(siblings, axis=-1))
    return mix * weights.reshape(-1, *[1] * (mix.ndim - 1))
