"""Edges in other forms, for accelerators: all that leave a node as one op with one more axis, and
all weights of an edge in one array."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
from dnas.kernels.loops.arrays import EdgeArrays, Links, RunEdge


def in_one_array(run_edge: RunEdge, weights: PyTree) -> tuple[RunEdge, PyTree]:
    """Returns the same with all weights of an edge in one array, [E, P] in place of many [E, ...].

    On an accelerator reading each of them, and writing its gradient, is a kernel, and those were a
    quarter of all kernels of a step.
    """
    leaves, tree = jax.tree.flatten(weights)
    if len(leaves) < 2 or len({leaf.dtype for leaf in leaves}) > 1:
        return run_edge, weights
    shapes = [leaf.shape[1:] for leaf in leaves]
    sizes = [math.prod(shape) for shape in shapes]

    def run(weights, row, x):
        flat = lax.split(weights, sizes)
        parts = [part.reshape(shape) for part, shape in zip(flat, shapes, strict=True)]
        return run_edge(tree.unflatten(parts), row, x)

    rows = [jnp.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves]
    return run, jnp.concatenate(rows, axis=1)


def over_targets(run_edge: RunEdge) -> RunEdge:
    """Returns the function of all edges that leave a node: weights and rows have one more axis."""
    # x is mapped over no axis: what has no weights (ReLU, pooling, its norm) runs once a node, not
    # once an edge.
    return jax.vmap(run_edge, (0, 0, None))


def by_source(links: Links, arrays: EdgeArrays) -> tuple[Links, int, EdgeArrays]:
    """Returns (source, first target) of each node that edges leave, how many targets each has from
    there, and arrays [nodes, targets, ...] of the edges, zero where no edge is."""
    targets: dict[int, dict[int, int]] = {}
    for row, (source, target) in enumerate(links):
        targets.setdefault(source, {})[target] = row
    width = max(max(own) - min(own) + 1 for own in targets.values())
    firsts = {source: max(max(own) - width + 1, 0) for source, own in targets.items()}
    rows = np.asarray(
        [[own.get(firsts[source] + n, -1) for n in range(width)] for source, own in targets.items()]
    )

    def spread(array):
        return jnp.stack([_rows_or_zeros(array, own) for own in rows])

    weights, mix = jax.tree.map(spread, (arrays.weights, arrays.mix))
    skip = arrays.skip
    if skip is not None:
        skip = jnp.stack([jnp.asarray(skip)[own[own >= 0]].all() for own in rows])
    return tuple(firsts.items()), width, arrays._replace(weights=weights, mix=mix, skip=skip)


def _rows_or_zeros(array: Array, rows: np.ndarray) -> Array:
    """array[rows], and zeros where a row is -1: as a slice where they are one after the other,
    which takes no scatter back."""
    (there,) = np.nonzero(rows >= 0)
    first, last = int(rows[there[0]]), int(rows[there[-1]])
    if (np.diff(there) == 1).all() and (np.diff(rows[there]) == 1).all():
        around = (int(there[0]), len(rows) - 1 - int(there[-1]))
        return jnp.pad(jnp.asarray(array)[first : last + 1], [around] + [(0, 0)] * (array.ndim - 1))
    kept = (rows >= 0).reshape(-1, *[1] * (array.ndim - 1))
    return jnp.where(kept, jnp.asarray(array)[np.maximum(rows, 0)], 0)
