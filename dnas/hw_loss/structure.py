"""What of a cell is connected, in numbers that a cost is a weighted sum of."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array
from dnas.graph import CellSpec
from dnas.hw_loss.liveness import expected_liveness, present_ops


def structure(spec: CellSpec, mix: Array) -> Array:
    """Returns [K] expected numbers that a cost is a weighted sum of, see `expected_liveness`.

    They are: 1; whether the cell is connected; sums; live ops, by op; chosen ops, by op, connected
    or not; ops that run on zeros if the runtime does not fold them, by source and op; live ops that
    feed a live op, by both ops (where operators are fused, or find data in a cache).
    """
    found = expected_liveness(spec, mix)
    ops = jnp.array(present_ops(spec), int)
    base = [
        jnp.ones((1,), mix.dtype),
        found.connected[None],
        found.sums[None],
        found.live.sum(axis=0)[ops],
    ]
    base.append(mix.sum(axis=0)[ops])
    for node in spec.nodes:
        rows = [number for number, (source, _) in enumerate(spec.edges) if source == node]
        if rows:
            base.append(found.unfed[jnp.array(rows)].sum(axis=0)[ops])
    # Whether the first op's source is reached, the two ops, and whether the second's target is
    # used: all independent.
    first = jnp.stack(
        [found.reached[source] * mix[number, ops] for number, (source, _) in enumerate(spec.edges)]
    )
    second = jnp.stack(
        [found.used[target] * mix[number, ops] for number, (_, target) in enumerate(spec.edges)]
    )
    pairs = jnp.einsum("eo,ef,fp->op", first, jnp.array(_follows(spec), mix.dtype), second)
    return jnp.concatenate([*base, pairs.ravel()])


def structures(spec: CellSpec, mixes: np.ndarray) -> np.ndarray:
    """Returns those of several mixes [N, E, O], [N, K]."""
    # As one computation, which a bare vmap would dispatch op by op.
    numbers = jax.lax.map(
        lambda mix: structure(spec, mix), jnp.asarray(mixes), batch_size=len(mixes)
    )
    return np.asarray(numbers, float)


def _follows(spec: CellSpec) -> list[list[bool]]:
    return [[target == source for source, _ in spec.edges] for _, target in spec.edges]
