"""Edge normalisation of PC-DARTS: a weight for every edge beside those of its ops.
https://arxiv.org/abs/1907.05737"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dnas.base import ABSENT, Array, Key, Logits
from dnas.checks import checked
from dnas.choices import Choices
from dnas.relax.relaxation import Relaxation, present, read_mix
from dnas.relax.simplex import simplex
from dnas.relax.softmax import softmax


@checked
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

    def first(key: Key, choices: Choices) -> Array:
        return init_scale * jax.random.normal(key, (len(choices.rows),))

    return _with_edges(inner, first, _softmax_weights)


@checked
def simplex_edge_weights(relaxation: Relaxation | None = None) -> Relaxation:
    """Returns a relaxation with the mix of another one, each row multiplied by the weight of its
    edge, where these weights themselves are learnt: those of the edges that enter a node lie on the
    simplex.

    The released code of GAEA, https://arxiv.org/abs/2004.07802, searches so on PC-DARTS's partial
    channels. arch is {"ops": [E, O], "edges": weights [E]}, which start as 1 / (edges of the node);
    `exponentiated_gradient(compete=choices.compete)` keeps them on their simplexes. Where edges
    have lost all their ops, the others of the node are divided by their sum. Where no rows compete,
    there are no such weights.

    Args:
      relaxation: `simplex()` unless given; any other that has no edge weights yet.

    Raises:
      ValueError: on init, if the relaxation has edge weights of its own.

    Example:
      >>> import dnas, jax
      >>> choices, key = dnas.SPACES["darts"].choices["normal"], jax.random.key(0)
      >>> relaxation = simplex_edge_weights()
      >>> mix = relaxation.sample(key, relaxation.init(key, choices), choices, 0)
      >>> [round(float(mix[row].sum()), 4) for row in (0, 2)]  # of two edges, and of three
      [0.5, 0.3333]
    """
    inner = simplex() if relaxation is None else relaxation

    def first(key: Key, choices: Choices) -> Array:
        del key
        return jnp.asarray(1 / choices.compete.sum(axis=-1), jnp.float32)

    return _with_edges(inner, first, _shares)


# (learnt values [E], which edges have an op left [E], choices) -> weights [E]
_Weights = Callable[[Array, Array, Choices], Array]


def _with_edges(
    inner: Relaxation, first: Callable[[Key, Choices], Array], weights_of: _Weights
) -> Relaxation:
    """The relaxation that learns a value for each edge, of which `weights_of` makes its weight."""

    def init(key: Key, choices: Choices) -> Logits:
        ops_key, edges_key = jax.random.split(key)
        arch = inner.init(ops_key, choices)
        if "edges" in arch:
            raise ValueError("the relaxation has edge weights already; wrap one without")
        if not choices.groups:  # no rows compete for a place
            return arch
        return {**arch, "edges": first(edges_key, choices)}

    def scaled(mix: Array, arch: Logits, choices: Choices) -> Array:
        """mix [E, O] or [E, O, B] times the edge weights."""
        if "edges" not in arch:
            return mix
        there = present(arch["ops"]).any(axis=-1)
        weights = weights_of(arch["edges"], there, choices)
        return mix * weights.reshape(-1, *[1] * (mix.ndim - 1))

    def sample(key: Key, arch: Logits, choices: Choices, step: Array) -> Array:
        return scaled(inner.sample(key, _without_edges(arch), choices, step), arch, choices)

    def read(arch: Logits, choices: Choices) -> Array:
        return scaled(read_mix(inner, _without_edges(arch), choices), arch, choices)

    return Relaxation(init, sample, read)


def _without_edges(arch: Logits) -> Logits:
    return {name: part for name, part in arch.items() if name != "edges"}


def _softmax_weights(beta: Array, there: Array, choices: Choices) -> Array:
    beta = jnp.where(there, beta, ABSENT)
    siblings = jnp.where(choices.compete, beta, -jnp.inf)
    return jnp.exp(beta - jax.nn.logsumexp(siblings, axis=-1))


def _shares(edges: Array, there: Array, choices: Choices) -> Array:
    kept = jnp.where(there, edges, 0.0)
    # Where a node has all its edges, nothing is divided, so that the gradient is that of the
    # identity; nor where it has none left.
    compete = jnp.asarray(choices.compete)
    partial = there & (compete & ~there).any(axis=-1)
    return kept / jnp.where(partial, compete @ kept, 1.0)
