"""Edge normalisation of PC-DARTS: a weight for every edge beside those of its ops.
https://arxiv.org/abs/1907.05737"""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import ABSENT, ArchRows, Array, Key
from dnas.relax.relaxation import Relaxation, op_logits, present, read_mix
from dnas.relax.softmax import softmax
from dnas.space import CellSpec


def edge_weights(relaxation: Relaxation | None = None, *, init_scale: float = 1e-3) -> Relaxation:
    """Returns a relaxation with the mix of another one, each row multiplied by the weight of its
    edge.

    The weights are the softmax of beta over the edges that enter the same node, PC-DARTS's section
    on edge normalisation, https://arxiv.org/abs/1907.05737: those of a node sum to one, so that
    with equal beta a node is the mean over its edges where DARTS has the sum. arch is {"ops":
    logits [E, O], "edges": beta [E]}. Genotypes are read from the product, as the paper has it. An
    edge whose ops have all been dropped takes no part in the softmax.

    Args:
      relaxation: `softmax()` unless given; any other that has no edge weights yet.
      init_scale: standard deviation of the normal distribution that beta is drawn from.

    Raises:
      ValueError: on init, if the relaxation has edge weights of its own.

    Example:
      >>> import dnas, jax
      >>> spec, key = dnas.SPACES["darts"].cells["normal"], jax.random.key(0)
      >>> mix = edge_weights().sample(key, edge_weights().init(key, spec), spec, 0)
      >>> mix.shape, float(mix[jax.numpy.array(spec.incoming(5))].sum().round(5))
      ((14, 8), 1.0)
    """
    inner = softmax() if relaxation is None else relaxation

    def init(key: Key, spec: CellSpec) -> ArchRows:
        ops_key, edges_key = jax.random.split(key)
        arch = inner.init(ops_key, spec)
        arch = {"ops": arch} if hasattr(arch, "shape") else arch
        if "edges" in arch:
            raise ValueError("the relaxation has edge weights already; wrap one without")
        return {**arch, "edges": init_scale * jax.random.normal(edges_key, (len(spec.edges),))}

    def sample(key: Key, arch: ArchRows, spec: CellSpec, step: Array) -> Array:
        return _scaled(inner.sample(key, _without_edges(arch), spec, step), arch, spec)

    def read(arch: ArchRows, spec: CellSpec) -> Array:
        return _scaled(read_mix(inner, _without_edges(arch), spec), arch, spec)

    return Relaxation(init, sample, read)


def _without_edges(arch: ArchRows) -> ArchRows:
    rest = {name: part for name, part in arch.items() if name != "edges"}
    return rest["ops"] if set(rest) == {"ops"} else rest


def _scaled(mix: Array, arch: ArchRows, spec: CellSpec) -> Array:
    """mix [E, O] or [E, O, B] times the edge weights."""
    beta = jnp.where(present(op_logits(arch)).any(axis=-1), arch["edges"], ABSENT)
    targets = np.array([target for _, target in spec.edges])
    siblings = jnp.where(
        targets[:, None] == targets, beta, -jnp.inf
    )  # row e: beta of the edges into the node of edge e
    weights = jnp.exp(beta - jax.nn.logsumexp(siblings, axis=-1))
    return mix * weights.reshape(-1, *[1] * (mix.ndim - 1))
