"""The network that a mix would be read as, inside of a compiled step: what a controller watches."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, Array, Mix
from dnas.choices import Choices
from dnas.parts import NetworkParts


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
    return {kind: _discrete(choices, mix[kind]) for kind, choices in layers.choices.items()}


def _discrete(choices: Choices, mix: AnyArray) -> Array:
    rows = jax.lax.stop_gradient(jnp.asarray(mix))
    in_play = choices.allowed if choices.keep is None else choices.computes
    weights = jnp.where(in_play, rows, -jnp.inf)
    best = weights.argmax(axis=-1)
    if choices.keep is None:
        # A row without any weight has been dropped: it computes nothing, where it may.
        nothing = choices.allowed & choices.is_nothing
        empty = ~jnp.where(choices.allowed, rows, 0.0).any(axis=-1)
        best = jnp.where(empty & nothing.any(axis=-1), nothing.argmax(axis=-1), best)
        return jax.nn.one_hot(best, rows.shape[-1], dtype=rows.dtype)
    strength, numbers = weights.max(axis=-1), np.arange(len(choices.rows))
    stronger = strength[None] > strength[:, None]
    earlier = (strength[None] == strength[:, None]) & (numbers[None] < numbers[:, None])
    ahead = ((stronger | earlier) & choices.compete).sum(axis=-1)
    kept = (ahead < choices.keep) | ~choices.may_be_dropped
    chosen = jax.nn.one_hot(best, rows.shape[-1], dtype=rows.dtype)
    return chosen * kept[:, None].astype(rows.dtype)
