"""What of a relaxed cell is connected: expectations over independent choices, one op an edge, drawn with the mix's numbers."""

from collections.abc import Iterable
from typing import NamedTuple

import chex
import jax.numpy as jnp

from dnas.base import Array
from dnas.space import CellSpec


class Liveness(NamedTuple):
    """Probabilities that parts of a cell are connected, and the expected number of sums."""

    reached: Array  # [nodes] that data arrives from an input; inputs are reached
    used: Array  # [nodes] that data leads on to the output
    connected: Array  # [] that the output depends on an input
    live: Array  # [E, O] that the op is chosen, its source is reached and its target used
    unfed: Array  # [E, O] that the op is chosen and its target used, but its source holds nothing but zeros
    sums: Array  # [] expected additions: a used node with k live inputs makes k - 1


def expected_liveness(spec: CellSpec, mix: Array) -> Liveness:
    """Returns what is connected in a cell whose edges choose their ops independently, edge e the op o with mix[e, o].

    Exact, not a mean field: equal to the average over all discrete cells. Ops into a node and ops out of it are on different
    edges, so that an edge's source and target are independent; only how paths meet needs joint probabilities, which are
    carried over the nodes in order as in the exact computation of network reliability. At a one-hot mix everything is 0 or 1
    (and `sums` a whole number).

    Args:
      spec: "none" among its ops, and what a row lacks to one, are absent edges. Any other op passes on what it is given.
      mix: [E, O], rows sum to at most one.

    Example:
      >>> chain = CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv"), concat=(2,))
      >>> found = expected_liveness(chain, jnp.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]))
      >>> found.live[:, 1].tolist(), found.unfed[:, 1].tolist(), float(found.connected)
      ([0.25, 0.25, 0.0], [0.0, 0.25, 0.0], 0.25)
    """
    chex.assert_shape(mix, (len(spec.edges), len(spec.ops)))
    chosen = mix * jnp.array([op != "none" for op in spec.ops], mix.dtype)
    present = chosen.sum(axis=-1)
    total = spec.num_inputs + spec.num_nodes
    inputs, backwards = range(spec.num_inputs), [(target, source) for source, target in spec.edges]
    reached, connected = _reach(range(total), spec.edges, present, inputs, spec.concat)
    used, _ = _reach(reversed(range(total)), backwards, present, spec.concat, ())
    sources, targets = (jnp.array(ends, int) for ends in zip(*spec.edges, strict=True))
    leads_on = chosen * used[targets, None]
    live, unfed = leads_on * reached[sources, None], leads_on * (1 - reached[sources, None])
    # k - 1 summed over used nodes with k > 0 live inputs. Whether a node is used lies behind it, independent of the k before.
    sums = live.sum() - jnp.sum((used * reached)[spec.num_inputs :])
    return Liveness(reached, used, connected, live, unfed, sums)


def present_ops(spec: CellSpec) -> list[int]:
    """Returns the columns of the ops that pass something on: all but "none"."""
    return [number for number, op in enumerate(spec.ops) if op != "none"]


def _reach(
    order: Iterable[int], edges: Iterable[tuple[int, int]], present: Array, starts: Iterable[int], ends: Iterable[int]
) -> tuple[Array, Array]:
    """Probabilities that each node is reached from any of `starts` ([nodes]), and that any of `ends` is ([])."""
    order, starts, ends = list(order), set(starts), set(ends)
    place = {node: number for number, node in enumerate(order)}
    last_read = {node: max((place[b] for a, b in edges if a == node), default=-1) for node in order}
    # The joint distribution of "not reached, reached", one axis for every node that is still to be read.
    joint, axes, reached = jnp.ones((), present.dtype), [], {}
    for node in order:
        if node in starts:
            reached[node] = jnp.ones((), present.dtype)
            continue
        missed = jnp.ones((1,) * len(axes), present.dtype)
        for number, (source, target) in enumerate(edges):
            if target != node:
                continue
            absent = 1 - present[number]
            if source in starts:
                missed = missed * absent
            else:
                shape = [2 if axis == source else 1 for axis in axes]
                missed = missed * jnp.stack([jnp.ones_like(absent), absent]).reshape(shape)
        joint = jnp.stack([joint * missed, joint * (1 - missed)], axis=-1)
        axes.append(node)
        reached[node] = joint[..., 1].sum()
        for done in [axis for axis in axes if last_read[axis] <= place[node] and axis not in ends]:
            joint = joint.sum(axis=axes.index(done))
            axes.remove(done)
    any_end = 1 - joint[(0,) * joint.ndim] if ends and not ends & starts else jnp.ones((), present.dtype)
    return jnp.stack([reached[node] for node in sorted(order)]), any_end
