"""One function on every edge, one after the other or a node's at once, in one compiled loop."""

import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, custom_vjp
from dnas.kernels.loops.arrays import (
    EdgeArrays,
    EdgeLoop,
    Gradients,
    Links,
    RunEdge,
    add,
    columns,
    no_gradient,
    read,
    unless,
)
from dnas.kernels.loops.waves import by_source, in_one_array, over_targets


def plain_loop(
    run_edge: RunEdge, links: Links, *, remat: bool, waves: bool, flat: bool
) -> EdgeLoop:
    """Returns the loop that runs `run_edge` on every edge.

    Args:
      remat: whether the backward pass computes each edge again; otherwise it keeps all that the
        gradient of each needs.
      waves: run all edges that leave a node at once, as one op with one more axis, and one node
        after the other; they are skipped together or not at all. For each node as many run as for
        the one with most targets: the weights and the mix of those that are not there are zero.
      flat: put all weights of an edge in one array, see `in_one_array`.
    """

    def loop(arrays: EdgeArrays) -> Array:
        run, own, width = run_edge, tuple(links), None
        if flat:
            run, weights = in_one_array(run, arrays.weights)
            arrays = arrays._replace(weights=weights)
        if waves:
            run = over_targets(run)
            own, width, arrays = by_source(own, arrays)
        if arrays.skip is not None and not remat:
            run = _run_unless(run, width)
            arrays = arrays._replace(weights=(arrays.skip, arrays.weights), skip=None)
        return _scan(run, own, width, remat, arrays)

    return loop


def _run_unless(run_edge: RunEdge, width: int | None) -> RunEdge:
    def run(weights, row, x):
        skip, weights = weights
        shape = x.shape if width is None else (width, *x.shape)

        def nothing(weights, row, x):
            return jnp.zeros(shape, x.dtype)

        return lax.cond(skip, nothing, run_edge, weights, row, x)

    return run


@custom_vjp(nondiff_argnums=(0, 1, 2, 3))
def _scan(
    run_edge: RunEdge, links: Links, width: int | None, remat: bool, arrays: EdgeArrays
) -> Array:
    return _forward(run_edge, links, width, True, arrays)[0]


def _forward(run_edge, links, width, remat, arrays):
    # The value that comes with a gradient: kernels of an edge may be jax.custom_vjp, and only what
    # remains of them once a gradient has been asked for has a forward mode, which second order
    # needs. The state is read in here, so that what reads it first reads the buffer of all, and no
    # copy.
    @jax.checkpoint
    def value(weights, row, buffer, source):
        return jax.vjp(run_edge, weights, row, read(buffer, source))[0]

    def body(nodes, edge):
        weights, row, (source, target), skipped = edge
        buffer = arrays._replace(nodes=nodes).read
        if remat:
            y, pullback = unless(skipped, value, weights, row, buffer, source), None
        else:
            # The pullback is a tree of arrays, which the loop stacks.
            y, pullback = jax.vjp(run_edge, weights, row, read(buffer, source))
        return add(nodes, target, y, width), pullback

    edges = (arrays.weights, arrays.mix, columns(links), arrays.skip)
    nodes, pullbacks = lax.scan(body, arrays.nodes, edges)
    return nodes, (arrays._replace(nodes=nodes), pullbacks)


def _backward(run_edge, links, width, remat, saved, gradient):
    arrays, pullbacks = saved

    @jax.checkpoint
    def pull_back(weights, row, source, target, of_nodes):
        _, pull = jax.vjp(run_edge, weights, row, read(arrays.read, source))
        return pull(read(of_nodes, target, width))

    def body(gradients, edge):
        weights, row, (source, target), pullback, skipped = edge
        if remat:
            args = (weights, row, source, target, gradients.nodes)
            of_weights, of_row, of_x = unless(skipped, pull_back, *args)
        else:
            of_weights, of_row, of_x = pullback(read(gradients.nodes, target, width))
        return gradients.plus(source, of_x), (of_weights, of_row)

    first = Gradients.of(arrays, gradient)
    edges = (arrays.weights, arrays.mix, columns(links), pullbacks, arrays.skip)
    (of_states, of_nodes), (of_weights, of_mix) = lax.scan(body, first, edges, reverse=True)
    return (EdgeArrays(of_weights, of_mix, of_states, of_nodes, no_gradient(arrays.skip)),)


_scan.defvjp(_forward, _backward)
