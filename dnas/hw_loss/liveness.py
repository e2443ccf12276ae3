"""What of a relaxed cell is connected: expectations over independent choices, one op an edge, drawn
with the mix's numbers."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from dnas.base import Array
from dnas.graph import CellSpec, expected_reach, reached_nodes


class Liveness(NamedTuple):
    """Probabilities that parts of a cell are connected, and the expected number of sums."""

    reached: Array  # [nodes] that data arrives from an input; inputs are reached
    used: Array  # [nodes] that data leads on to the output
    connected: Array  # [] that the output depends on an input
    live: Array  # [E, O] that the op is chosen, its source is reached and its target used
    # [E, O] that the op is chosen and its target used, but its source holds nothing but zeros
    unfed: Array
    sums: Array  # [] expected additions: a used node with k live inputs makes k - 1


def expected_liveness(spec: CellSpec, mix: Array) -> Liveness:
    """Returns what is connected in a cell whose edges choose their ops independently, edge e the op
    o with mix[e, o].

    Exact, not a mean field: equal to the average over all discrete cells. Ops into a node and ops
    out of it are on different edges, so that an edge's source and target are independent; only how
    paths meet needs joint probabilities, see `reached_nodes`. At a one-hot mix everything is 0 or 1
    (and `sums` a whole number).

    Args:
      spec: ops that compute nothing, and what a row lacks to one, are absent edges. Any other op
        passes on what it is given.
      mix: [E, O], rows sum to at most one.

    Example:
      >>> chain = CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv"), concat=(2,))
      >>> found = expected_liveness(chain, jnp.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]))
      >>> found.live[:, 1].tolist(), found.unfed[:, 1].tolist(), float(found.connected)
      ([0.25, 0.25, 0.0], [0.0, 0.25, 0.0], 0.25)
    """
    chex.assert_shape(mix, spec.choices.shape)
    chosen = mix * jnp.asarray(~spec.choices.is_nothing, mix.dtype)
    present = chosen.sum(axis=-1)
    reached, used = expected_reach(spec, present)
    # A node behind the output is reached if any of the output is.
    total = spec.num_inputs + spec.num_nodes
    edges = [*spec.edges, *((node, total) for node in spec.concat)]
    there = jnp.concatenate([present, jnp.ones(len(spec.concat), present.dtype)])
    connected = reached_nodes(jnp, total + 1, edges, there, range(spec.num_inputs))[total]
    sources, targets = (jnp.array(ends, int) for ends in zip(*spec.edges, strict=True))
    leads_on = chosen * used[targets, None]
    live, unfed = leads_on * reached[sources, None], leads_on * (1 - reached[sources, None])
    # k - 1 summed over used nodes with k > 0 live inputs. Whether a node is used lies behind it,
    # independent of the k before.
    sums = live.sum() - jnp.sum((used * reached)[spec.num_inputs :])
    return Liveness(reached, used, connected, live, unfed, sums)


def present_ops(spec: CellSpec) -> list[int]:
    """Returns the columns of the ops that pass something on."""
    return np.flatnonzero(~spec.choices.is_nothing).tolist()
