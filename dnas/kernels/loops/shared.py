"""One edge after the other, where the edges that leave a node have work in common: on a CPU it runs
once for all of them, and once more for the gradient."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
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
    run_if,
    taken,
    unless,
    zeros,
)


class Shared(NamedTuple):
    """A `RunEdge` in two steps, the first of which is the same for all edges that leave a node.

    What it makes of x is what an edge computes on, and what is only weighted by the row: pooled
    images, say. The gradient of the latter is a weighted sum of the gradients of all targets, so
    that it needs no edge.
    """

    prepare: Callable[[Array], tuple[PyTree, PyTree]]  # x -> (seen, passed)
    run: Callable[[PyTree, Array, tuple[PyTree, PyTree]], Array]  # (weights, row, prepared) -> y
    # (row, passed) -> the terms of y that depend on what is passed, linear in that, zero for a row
    # of zeros
    passing: Callable[[Array, PyTree], Array]
    alone: RunEdge  # the same in one step


def shared_loop(run_edge: Shared, links: Links) -> EdgeLoop:
    """Returns the loop that runs the first step once for edges that are one after the other in
    `links` and leave the same node; the backward pass computes each edge again."""
    return partial(_scan, run_edge, tuple(links))


# Jitted, so that JAX traces and lowers it once for a stage, not for each pass and each gradient.
@partial(jax.jit, static_argnums=(0, 1))
def _nodes(run_edge: Shared, links: Links, arrays: EdgeArrays) -> Array:
    def prepare(_, buffer, source):
        return jax.vjp(run_edge.prepare, read(buffer, source))[0]

    def run(weights, row, prepared):
        return jax.vjp(run_edge.run, weights, row, prepared)[0]

    def body(carry, edge):
        nodes, prepared = carry
        weights, row, (source, target), first, skipped = edge
        buffer = arrays._replace(nodes=nodes).read
        prepared = _renewed(prepare, first, prepared, buffer, source)
        if skipped is None:
            # As `run`, the value that comes with a gradient, see `plain.py`.
            y = jax.vjp(run_edge.run, weights, row, prepared)[0]
        else:
            y = unless(skipped, run, weights, row, prepared)
        return (add(nodes, target, y), prepared), None

    first, _ = _ends_of_runs(links, arrays.skip)
    nothing = zeros(jax.eval_shape(partial(prepare, None), arrays.read, 0))
    edges = (arrays.weights, arrays.mix, columns(links), first, arrays.skip)
    (nodes, _), _ = lax.scan(body, (arrays.nodes, nothing), edges)
    return nodes


_scan = jax.custom_vjp(_nodes, nondiff_argnums=(0, 1))


def _forward(run_edge, links, arrays):
    nodes = _nodes(run_edge, links, arrays)
    return nodes, arrays._replace(nodes=nodes)


def _backward(run_edge, links, arrays, gradient):
    found = _gradients(run_edge, links, arrays, gradient)
    return (found._replace(skip=no_gradient(arrays.skip)),)


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(run_edge: Shared, links: Links, arrays: EdgeArrays, gradient: Array) -> EdgeArrays:
    of_prepare = jax.tree.structure(
        jax.eval_shape(lambda x: jax.vjp(run_edge.prepare, x)[1], arrays.read[0])
    )

    def prepare(_, buffer, source):
        prepared, pull = jax.vjp(run_edge.prepare, read(buffer, source))
        return prepared, jax.tree.leaves(pull)

    @jax.checkpoint
    def pull_back(weights, row, prepared, target, of_nodes):
        seen, passed = prepared

        def run(weights, row, seen):
            return run_edge.run(weights, row, (seen, passed))

        return jax.vjp(run, weights, row, seen)[1](taken(of_nodes, target))

    def pull_to_source(gradients, source, targets, rows, passed, kept, of_seen):
        # The gradients of all targets are there by now, so that what is passed gets its gradient
        # from all at once.
        of_passed = passed
        if jax.tree.leaves(passed):
            terms = []
            for row, target in zip(rows, targets, strict=True):
                pull = jax.vjp(partial(run_edge.passing, row), passed)[1]
                terms.append(pull(read(gradients.nodes, target))[0])
            of_passed = jax.tree.map(lambda *arrays: sum(arrays[1:], arrays[0]), *terms)
        (of_x,) = jax.tree.unflatten(of_prepare, kept)((of_seen, of_passed))
        return gradients.plus(source, of_x)

    def body(carry, edge):
        gradients, (prepared, kept), of_seen = carry
        weights, row, (source, target), first, last, targets, rows, skipped = edge
        prepared, kept = _renewed(prepare, last, (prepared, kept), arrays.read, source)
        args = (weights, row, prepared, target, gradients.nodes)
        of_weights, of_row, more = unless(skipped, pull_back, *args)
        # The edges of a node come one after the other, the last one first.
        of_seen = jax.tree.map(lambda total, own: jnp.where(last, own, total + own), of_seen, more)
        args = (gradients, source, targets, rows, prepared[1], kept, of_seen)
        gradients = _renewed(pull_to_source, first, *args)
        return (gradients, (prepared, kept), of_seen), (of_weights, of_row)

    known = zeros(jax.eval_shape(partial(prepare, None), arrays.read, 0))
    of_seen = jax.tree.map(jnp.zeros_like, known[0][0])
    begin = Gradients.of(arrays, gradient), known, of_seen
    edges = (
        arrays.weights,
        arrays.mix,
        columns(links),
        *_ends_of_runs(links, arrays.skip),
        *_rows_of_runs(links, arrays.mix, arrays.skip),
        arrays.skip,
    )
    ((of_states, of_nodes), _, _), (of_weights, of_mix) = lax.scan(body, begin, edges, reverse=True)
    return EdgeArrays(of_weights, of_mix, of_states, of_nodes)


_scan.defvjp(_forward, _backward)


def _runs(links: Links) -> list[tuple[int, int]]:
    """(start, stop) of the edges, one after the other, that leave the same node."""
    sources = np.asarray([source for source, _ in links])
    starts = np.flatnonzero(np.r_[True, sources[1:] != sources[:-1]])
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(links)], strict=True))


def _ends_of_runs(links: Links, skip: Array | np.ndarray | None) -> tuple[Array, Array]:
    """([E], [E]) bool: whether an edge is the first, and the last, of its run, unless all edges of
    that are skipped."""
    runs = _runs(links)
    first = jnp.asarray(np.isin(np.arange(len(links)), [start for start, _ in runs]))
    last = jnp.asarray(np.isin(np.arange(len(links)), [stop - 1 for _, stop in runs]))
    if skip is None:
        return first, last
    runs_at_all = [
        jnp.broadcast_to(~jnp.asarray(skip)[start:stop].all(), stop - start) for start, stop in runs
    ]
    run = jnp.concatenate(runs_at_all)
    return first & run, last & run


def _rows_of_runs(
    links: Links, mix: Array, skip: Array | np.ndarray | None
) -> tuple[np.ndarray, Array]:
    """For each edge where the edges of its run lead, [E, most], and their rows of the mix, [E,
    most, O]; zeros for edges that are skipped, and where a run has fewer edges than the longest."""
    most = max(stop - start for start, stop in _runs(links))
    edges, there = np.zeros((len(links), most), int), np.zeros((len(links), most), bool)
    for start, stop in _runs(links):
        edges[start:stop] = np.minimum(start + np.arange(most), stop - 1)
        there[start:stop] = start + np.arange(most) < stop
    if skip is not None:
        there = there & ~jnp.asarray(skip)[edges]
    rows = jnp.where(there.reshape(*there.shape, *[1] * (mix.ndim - 1)), jnp.asarray(mix)[edges], 0)
    return np.asarray([target for _, target in links], np.int32)[edges], rows


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _renewed(function, whether, old, *args):
    """function(old, *args) if `whether` holds, otherwise `old`.

    As `run_if`, with derivatives: the loop has no reverse mode, so that they are those of a
    conditional. `function` holds no arrays itself.
    """
    return run_if(whether, lambda old: function(old, *args), old)


@_renewed.defjvp
def _renewed_jvp(function, primals, tangents):
    def choose(whether, old, *args):
        return lax.cond(whether, function, lambda old, *args: old, old, *args)

    return jax.jvp(choose, primals, tangents)
