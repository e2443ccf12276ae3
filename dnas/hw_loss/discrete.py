"""The network that a mix would be read as, inside of a compiled step: what a controller watches."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Mix
from dnas.space import CellSpec, NetworkParts


def discrete_mix(layers: NetworkParts, mix: Mix) -> dict[str, Array]:
    """Returns the one-hot mix of the genotype that the usual rule of the space reads off a mix,
    `default_selection`.

    Pure, for jit and vmap; no gradient passes through it.

    Args:
      layers: `space.parts(...)` of any size: it names the cells, and how many edges their nodes
        keep.
      mix: {kind: [E, O]}.

    Example:
      >>> import dnas
      >>> layers = dnas.SPACES["nasbench201"].parts()
      >>> mix = {"cell": jnp.linspace(0.0, 1.0, 30).reshape(6, 5)}
      >>> jax.jit(lambda mix: discrete_mix(layers, mix))(mix)["cell"][0].tolist()
      [0.0, 0.0, 0.0, 0.0, 1.0]
    """
    return {
        kind: _discrete(spec, layers.edges_per_node, mix[kind])
        for kind, spec in layers.cells.items()
    }


def _discrete(spec: CellSpec, k: int | None, rows: Array) -> Array:
    rows, is_none = jax.lax.stop_gradient(rows), np.array(spec.ops) == "none"
    in_play = spec.allowed if k is None else spec.allowed & ~is_none
    weights = jnp.where(in_play, rows, -jnp.inf)
    best = weights.argmax(axis=-1)
    if k is None:
        if is_none.any():  # an edge without any weight has been dropped
            best = jnp.where(
                jnp.where(spec.allowed, rows, 0.0).any(axis=-1), best, int(is_none.argmax())
            )
        return jax.nn.one_hot(best, len(spec.ops), dtype=rows.dtype)
    targets, numbers = np.array([target for _, target in spec.edges]), np.arange(len(spec.edges))
    strength = weights.max(axis=-1)
    stronger = strength[None] > strength[:, None]
    earlier = (strength[None] == strength[:, None]) & (numbers[None] < numbers[:, None])
    ahead = ((stronger | earlier) & (targets[None] == targets[:, None])).sum(axis=-1)
    return jax.nn.one_hot(best, len(spec.ops), dtype=rows.dtype) * (ahead < k)[:, None]
