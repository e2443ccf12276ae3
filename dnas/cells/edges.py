"""Runs one function on every edge of a cell, one edge after the other, in one compiled loop.

XLA compiles the function once instead of once an edge, and all that an edge computes on the way is small enough to stay in
the cache of a CPU. The backward pass runs each edge forward again instead of reading back what it kept: on a CPU that is
faster than writing it to memory, and takes a tenth of the memory.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree

# (weights of the edge, its row of the mix [O], x [B, H, W, C]) -> y [B, h, w, C]
RunEdge = Callable[[PyTree, Array, Array], Array]


def scan_edges(
    run_edge: RunEdge,
    links: Sequence[tuple[int, int]],
    weights: PyTree,
    mix: Array,
    states: Array | None,
    nodes: Array,
    *,
    skip: Array | None = None,
    remat: bool = True,
) -> Array:
    """Returns `nodes` with the output of every edge added to its target.

    Args:
      run_edge: what an edge computes.
      links: (source, target) of E edges, places in `states` and `nodes`.
      weights: a tree of arrays [E, ...]; mix: [E, O].
      states: [S, B, H, W, C], what the edges read. None if they read `nodes` itself; then the links are in an order in which
        all edges into a node come before those that leave it.
      nodes: [N, B, h, w, C].
      skip: [E] bool, edges that do not run and add nothing; None to run all.
      remat: whether the backward pass computes each edge again; otherwise it keeps all that the gradient of each needs.
    """
    if skip is not None and not remat:
        run_edge, weights, skip = partial(_run_unless, run_edge), (skip, weights), None
    return _scan(run_edge, tuple(links), remat, weights, mix, states, nodes, skip)


def _run_unless(run_edge, weights, row, x):
    skip, weights = weights
    return lax.cond(skip, lambda weights, row, x: jnp.zeros_like(x), run_edge, weights, row, x)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _scan(run_edge, links, remat, weights, mix, states, nodes, skip):
    return _forward(run_edge, links, True, weights, mix, states, nodes, skip)[0]


def _forward(run_edge, links, remat, weights, mix, states, nodes, skip):
    # The value that comes with a gradient: kernels of an edge may be jax.custom_vjp, and only what remains of them once a
    # gradient has been asked for has a forward mode, which second order needs. The state is read in here, so that what
    # reads it first reads the buffer of all, and no copy.
    @jax.checkpoint
    def value(weights, row, read, source):
        return jax.vjp(run_edge, weights, row, _read(read, source))[0]

    def body(nodes, edge):
        weights, row, (source, target), skipped = edge
        read = nodes if states is None else states
        if remat:
            y, pullback = _unless(skipped, value, weights, row, read, source), None
        else:
            y, pullback = jax.vjp(run_edge, weights, row, _read(read, source))  # a tree of arrays, which the loop stacks
        return _add(nodes, target, y), pullback

    nodes, pullbacks = lax.scan(body, nodes, (weights, mix, _columns(links), skip))
    return nodes, (weights, mix, states, nodes, pullbacks, skip)


def _unless(skipped, function, *args):
    """function(*args), or zeros of its shapes."""
    if skipped is None:
        return function(*args)
    shapes = jax.eval_shape(function, *args)
    return lax.cond(
        skipped, lambda *args: jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes), function, *args
    )


def _backward(run_edge, links, remat, saved, gradient):
    weights, mix, states, nodes, pullbacks, skip = saved
    # A source is complete before an edge reads it, so that the final nodes hold what each edge has read.
    read = nodes if states is None else states

    @jax.checkpoint
    def pull_back(weights, row, source, target, of_nodes):
        return jax.vjp(run_edge, weights, row, _read(read, source))[1](_read(of_nodes, target))

    def body(carry, edge):
        of_states, of_nodes = carry
        weights, row, (source, target), pullback, skipped = edge
        if remat:
            of_weights, of_row, of_x = _unless(skipped, pull_back, weights, row, source, target, of_nodes)
        else:
            of_weights, of_row, of_x = pullback(_read(of_nodes, target))
        if states is None:
            of_nodes = _add(of_nodes, source, of_x)
        else:
            of_states = _add(of_states, source, of_x)
        return (of_states, of_nodes), (of_weights, of_row)

    first = None if states is None else jnp.zeros_like(states), gradient
    edges = (weights, mix, _columns(links), pullbacks, skip)
    (of_states, of_nodes), (of_weights, of_mix) = lax.scan(body, first, edges, reverse=True)
    of_skip = None if skip is None else np.zeros(skip.shape, jax.dtypes.float0)
    return of_weights, of_mix, of_states, of_nodes, of_skip


_scan.defvjp(_forward, _backward)


def _columns(links):
    return tuple(jnp.asarray(column, jnp.int32) for column in zip(*links, strict=True))


def _read(buffer, place):
    return lax.dynamic_index_in_dim(buffer, place, 0, keepdims=False)


def _add(buffer, place, y):
    return lax.dynamic_update_index_in_dim(buffer, _read(buffer, place) + y, place, 0)
