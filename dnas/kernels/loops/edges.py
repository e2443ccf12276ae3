"""Runs one function on every edge of a cell, one edge after the other, in one compiled loop.

XLA compiles the function once instead of once an edge, and all that an edge computes on the way is
small enough to stay in the cache of a CPU. The backward pass runs each edge forward again instead
of reading back what it kept: on a CPU that is faster than writing it to memory, and takes a tenth
of the memory. What all edges that leave a node have in common (`Shared`) runs once for them, and
once more for the gradient.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
from dnas.kernels.backend import on_cpu
from dnas.kernels.kernel import fence

# (weights of the edge, its row of the mix [O], x [B, H, W, C]) -> y [B, h, w, C]
RunEdge = Callable[[PyTree, Array, Array], Array]


class Shared(NamedTuple):
    """A `RunEdge` in two steps, the first of which is the same for all edges that leave a node and
    may run once for them.

    What it makes of x is what an edge computes on, and what is only weighted by the row: pooled
    images, say. The gradient of the latter is a weighted sum of the gradients of all targets, so
    that it needs no edge.
    """

    prepare: Callable[[Array], tuple[PyTree, PyTree]]  # x -> (read, passed)
    run: Callable[
        [PyTree, Array, tuple[PyTree, PyTree]], Array
    ]  # (weights, row, (read, passed)) -> y
    # (row, passed) -> the terms of y that depend on what is passed, linear in that, zero for a row
    # of zeros
    passing: Callable[[Array, PyTree], Array]
    alone: RunEdge  # the same in one step

    def __call__(self, weights: PyTree, row: Array, x: Array) -> Array:
        return self.alone(weights, row, x)


class SampledOp(NamedTuple):
    """What an edge computes in two steps, the first of which does not depend on the mix, with the
    weights of this name."""

    name: str
    first: Callable[[PyTree, Array], PyTree]  # (weights, x) -> between
    last: Callable[[Array, PyTree, Array], Array]  # (row, between, x) -> y
    # whether the gradient may read what is between, one array of the shape of y, instead of
    # computing it again
    keep: bool


class OneOf(NamedTuple):
    """Ops of which each edge runs one, that of the largest entry of its row of the mix; None adds
    nothing."""

    ops: tuple[SampledOp | None, ...]


def scan_edges(
    run_edge: RunEdge | OneOf,
    links: Sequence[tuple[int, int]],
    weights: PyTree,
    mix: Array,
    states: Array | None,
    nodes: Array,
    *,
    skip: Array | None = None,
    remat: bool = True,
    waves: bool = False,
) -> Array:
    """Returns `nodes` with the output of every edge added to its target.

    Args:
      run_edge: what an edge computes; of several functions only the one that is chosen runs,
        forward and backward. The first step of a `Shared` one runs once for edges that are one
        after the other in `links` and leave the same node, if they run one by one on a CPU and are
        computed again for the gradient; otherwise with every edge.
      links: (source, target) of E edges, places in `states` and `nodes`.
      weights: a tree of arrays [E, ...]; mix: [E, O].
      states: [S, B, H, W, C], what the edges read. None if they read `nodes` itself; then the links
        are in an order in which all edges into a node come before those that leave it.
      nodes: [N, B, h, w, C].
      skip: [E] bool, edges that do not run and add nothing; None to run all.
      remat: whether the backward pass computes each edge again; otherwise it keeps all that the
        gradient of each needs. Of several ops it computes again what they do not ask to be kept:
        which one runs is not known when memory is laid out.
      waves: run all edges that leave a node at once, as one op with one more axis, and one node
        after the other; they are skipped together or not at all. For each node as many run as for
        the one with most targets: the weights and the mix of those that are not there are zero.

    Raises:
      ValueError: for waves of sampled ops.
    """
    if isinstance(run_edge, OneOf):
        if waves:
            raise ValueError(
                "each edge runs an op of its own where ops are sampled; run them one by one:"
                " waves=False"
            )
        if mix.ndim != 2:
            raise ValueError(
                "a sampled path is one for the whole batch; with a mix for each sample give"
                " sampled=False"
            )
        ops = tuple(op and op._replace(keep=op.keep and not remat) for op in run_edge.ops)
        skip = np.zeros(len(links), bool) if skip is None else skip
        return _scan_sampled(ops, tuple(links), weights, mix, states, nodes, skip)
    if isinstance(run_edge, Shared) and remat and not waves and on_cpu():
        return _scan_shared(run_edge, tuple(links), weights, mix, states, nodes, skip)
    width = None
    if waves or not on_cpu():
        run_edge, weights = _in_one_array(run_edge, weights)
    if waves:
        run_edge = _over_targets(run_edge)
        links, width, (weights, mix), skip = _by_source(links, (weights, mix), skip)
    if skip is not None and not remat:
        run_edge, weights, skip = _run_unless(run_edge, width), (skip, weights), None
    return _scan(run_edge, (tuple(links), width), remat, weights, mix, states, nodes, skip)


def _in_one_array(run_edge: RunEdge, weights: PyTree) -> tuple[RunEdge, PyTree]:
    """The same with all weights of an edge in one array, [E, P] in place of many [E, ...]: on an
    accelerator reading each of them, and writing its gradient, is a kernel, and those were a
    quarter of all kernels of a step."""
    leaves, tree = jax.tree.flatten(weights)
    if len(leaves) < 2 or len({leaf.dtype for leaf in leaves}) > 1:
        return run_edge, weights
    shapes = [leaf.shape[1:] for leaf in leaves]
    sizes = [math.prod(shape) for shape in shapes]

    def run(weights, row, x):
        parts = lax.split(weights, sizes)
        return run_edge(
            tree.unflatten(
                [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
            ),
            row,
            x,
        )

    rows = [
        jnp.asarray(leaf).reshape(len(leaf), size) for leaf, size in zip(leaves, sizes, strict=True)
    ]
    return run, jnp.concatenate(rows, axis=1)


def _over_targets(run_edge: RunEdge) -> RunEdge:
    # x is mapped over no axis: what has no weights (ReLU, pooling, its norm) runs once a node, not
    #   once an edge.
    return jax.vmap(run_edge, (0, 0, None))


def _by_source(links, trees, skip):
    """(source, first target) of each node that edges leave, how many targets each has from there,
    and arrays [E, ...] as [nodes, targets, ...], zero where no edge is."""
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

    skip = (
        None
        if skip is None
        else jnp.stack([jnp.asarray(skip)[own[own >= 0]].all() for own in rows])
    )
    return tuple(firsts.items()), width, jax.tree.map(spread, trees), skip


def _rows_or_zeros(array, rows):
    """array[rows], and zeros where a row is -1: as a slice where they are one after the other,
    which takes no scatter back."""
    (there,) = np.nonzero(rows >= 0)
    first, last = int(rows[there[0]]), int(rows[there[-1]])
    if (np.diff(there) == 1).all() and (np.diff(rows[there]) == 1).all():
        around = (int(there[0]), len(rows) - 1 - int(there[-1]))
        return jnp.pad(jnp.asarray(array)[first : last + 1], [around] + [(0, 0)] * (array.ndim - 1))
    kept = (rows >= 0).reshape(-1, *[1] * (array.ndim - 1))
    return jnp.where(kept, jnp.asarray(array)[np.maximum(rows, 0)], 0)


def _run_unless(run_edge, width):
    def run(weights, row, x):
        skip, weights = weights
        shape = x.shape if width is None else (width, *x.shape)
        return lax.cond(
            skip, lambda weights, row, x: jnp.zeros(shape, x.dtype), run_edge, weights, row, x
        )

    return run


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _scan(run_edge, links, remat, weights, mix, states, nodes, skip):
    return _forward(run_edge, links, True, weights, mix, states, nodes, skip)[0]


def _forward(run_edge, links, remat, weights, mix, states, nodes, skip):
    links, width = links

    # The value that comes with a gradient: kernels of an edge may be jax.custom_vjp, and only what
    # remains of them once a gradient has been asked for has a forward mode, which second order
    # needs. The state is read in here, so that what reads it first reads the buffer of all, and no
    # copy.
    @jax.checkpoint
    def value(weights, row, read, source):
        return jax.vjp(run_edge, weights, row, _read(read, source))[0]

    def body(nodes, edge):
        weights, row, (source, target), skipped = edge
        read = nodes if states is None else states
        if remat:
            y, pullback = _unless(skipped, value, weights, row, read, source), None
        else:
            y, pullback = jax.vjp(
                run_edge, weights, row, _read(read, source)
            )  # a tree of arrays, which the loop stacks
        return _add(nodes, target, y, width), pullback

    nodes, pullbacks = lax.scan(body, nodes, (weights, mix, _columns(links), skip))
    return nodes, (weights, mix, states, nodes, pullbacks, skip)


def _unless(skipped, function, *args):
    """function(*args), or zeros of its shapes."""
    if skipped is None:
        return function(*args)
    shapes = jax.eval_shape(function, *args)
    return lax.cond(skipped, lambda *args: _zeros(shapes), function, *args)


def _backward(run_edge, links, remat, saved, gradient):
    (links, width), (weights, mix, states, nodes, pullbacks, skip) = links, saved
    # A source is complete before an edge reads it, so that the final nodes hold what each edge has
    # read.
    read = nodes if states is None else states

    @jax.checkpoint
    def pull_back(weights, row, source, target, of_nodes):
        return jax.vjp(run_edge, weights, row, _read(read, source))[1](
            _read(of_nodes, target, width)
        )

    def body(carry, edge):
        weights, row, (source, target), pullback, skipped = edge
        if remat:
            of_weights, of_row, of_x = _unless(
                skipped, pull_back, weights, row, source, target, carry[1]
            )
        else:
            of_weights, of_row, of_x = pullback(_read(carry[1], target, width))
        return _add_to_source(states is None, carry, source, of_x), (of_weights, of_row)

    first = None if states is None else jnp.zeros_like(states), gradient
    edges = (weights, mix, _columns(links), pullbacks, skip)
    (of_states, of_nodes), (of_weights, of_mix) = lax.scan(body, first, edges, reverse=True)
    return of_weights, of_mix, of_states, of_nodes, None if skip is None else _no_gradient(skip)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_shared(run_edge, links, weights, mix, states, nodes, skip):
    return _shared_forward(run_edge, links, weights, mix, states, nodes, skip)[0]


def _shared_forward(run_edge, links, weights, mix, states, nodes, skip):
    nodes = _shared_nodes(run_edge, links, weights, mix, states, nodes, skip)
    return nodes, (weights, mix, states, nodes, skip)


# Jitted, so that JAX traces and lowers it once for a stage, not for each pass and each gradient.
@partial(jax.jit, static_argnums=(0, 1))
def _shared_nodes(run_edge, links, weights, mix, states, nodes, skip):
    def prepare(_, buffer, source):
        return jax.vjp(run_edge.prepare, _read(buffer, source))[0]

    @jax.checkpoint
    def value(weights, row, prepared):
        return jax.vjp(run_edge.run, weights, row, prepared)[0]

    def body(carry, edge):
        nodes, prepared = carry
        weights, row, (source, target), first, skipped = edge
        prepared = _renewed(prepare, first, prepared, nodes if states is None else states, source)
        return (
            _add(nodes, target, _unless(skipped, value, weights, row, prepared)),
            prepared,
        ), None

    first, _ = _ends_of_runs(links, skip)
    nothing = _zeros(jax.eval_shape(partial(prepare, None), nodes if states is None else states, 0))
    (nodes, _), _ = lax.scan(body, (nodes, nothing), (weights, mix, _columns(links), first, skip))
    return nodes


def _shared_backward(run_edge, links, saved, gradient):
    *_, skip = saved
    return *_shared_gradients(run_edge, links, saved, gradient), (
        None if skip is None else _no_gradient(skip)
    )


@partial(jax.jit, static_argnums=(0, 1))
def _shared_gradients(run_edge, links, saved, gradient):
    weights, mix, states, nodes, skip = saved
    read = nodes if states is None else states
    of_prepare = jax.tree.structure(
        jax.eval_shape(lambda x: jax.vjp(run_edge.prepare, x)[1], read[0])
    )

    def prepare(_, read, source):
        prepared, pull = jax.vjp(run_edge.prepare, _read(read, source))
        return prepared, jax.tree.leaves(pull)

    @jax.checkpoint
    def pull_back(weights, row, prepared, target, of_nodes):
        own, passed = prepared
        run = lambda weights, row, own: run_edge.run(weights, row, (own, passed))  # noqa: E731
        return jax.vjp(run, weights, row, own)[1](_taken(of_nodes, target))

    def pull_to_source(buffers, source, targets, rows, passed, kept, of_own):
        # The gradients of all targets are there by now, so that what is passed gets its gradient
        # from all at once.
        of_passed = passed
        if jax.tree.leaves(passed):
            pulls = [jax.vjp(partial(run_edge.passing, row), passed)[1] for row in rows]
            terms = [
                pull(_read(buffers[1], target))[0]
                for pull, target in zip(pulls, targets, strict=True)
            ]
            of_passed = jax.tree.map(lambda *arrays: sum(arrays[1:], arrays[0]), *terms)
        (of_x,) = jax.tree.unflatten(of_prepare, kept)((of_own, of_passed))
        return _add_to_source(states is None, buffers, source, of_x)

    def body(carry, edge):
        buffers, (prepared, kept), of_own = carry
        weights, row, (source, target), first, last, targets, rows, skipped = edge
        prepared, kept = _renewed(prepare, last, (prepared, kept), read, source)
        of_weights, of_row, more = _unless(
            skipped, pull_back, weights, row, prepared, target, buffers[1]
        )
        # The edges of a node come one after the other, the last one first.
        of_own = jax.tree.map(lambda total, own: jnp.where(last, own, total + own), of_own, more)
        buffers = _renewed(
            pull_to_source, first, buffers, source, targets, rows, prepared[1], kept, of_own
        )
        return (buffers, (prepared, kept), of_own), (of_weights, of_row)

    known = _zeros(jax.eval_shape(partial(prepare, None), read, 0))
    begin = (
        (None if states is None else jnp.zeros_like(states), gradient),
        known,
        jax.tree.map(jnp.zeros_like, known[0][0]),
    )
    edges = (
        weights,
        mix,
        _columns(links),
        *_ends_of_runs(links, skip),
        *_rows_of_runs(links, mix, skip),
        skip,
    )
    ((of_states, of_nodes), _, _), (of_weights, of_mix) = lax.scan(body, begin, edges, reverse=True)
    return of_weights, of_mix, of_states, of_nodes


_scan_shared.defvjp(_shared_forward, _shared_backward)


def _zeros(shapes):
    return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)


def _runs(links):
    """(start, stop) of the edges, one after the other, that leave the same node."""
    sources = np.asarray([source for source, _ in links])
    starts = np.flatnonzero(np.r_[True, sources[1:] != sources[:-1]])
    return list(zip(starts, np.r_[starts[1:], len(links)], strict=True))


def _ends_of_runs(links, skip):
    """([E], [E]) bool: whether an edge is the first, and the last, of its run, unless all edges of
    that are skipped."""
    runs = _runs(links)
    first, last = (
        np.isin(np.arange(len(links)), places)
        for places in ([a for a, _ in runs], [b - 1 for _, b in runs])
    )
    if skip is None:
        return jnp.asarray(first), jnp.asarray(last)
    run = jnp.concatenate(
        [
            jnp.broadcast_to(~jnp.asarray(skip)[start:stop].all(), stop - start)
            for start, stop in runs
        ]
    )
    return first & run, last & run


def _rows_of_runs(links, mix, skip):
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

    As `_run_if`, with derivatives: the loop has no reverse mode, so that they are those of a
    conditional. `function` holds no arrays itself.
    """
    return _run_if(whether, lambda old: function(old, *args), old)


@_renewed.defjvp
def _renewed_jvp(function, primals, tangents):
    def choose(whether, old, *args):
        return lax.cond(whether, function, lambda old, *args: old, old, *args)

    return jax.jvp(choose, primals, tangents)


def _add_to_source(in_nodes: bool, carry, source, of_x):
    of_states, of_nodes = carry
    return (
        (of_states, _add(of_nodes, source, of_x))
        if in_nodes
        else (_add(of_states, source, of_x), of_nodes)
    )


def _no_gradient(array):
    return np.zeros(array.shape, jax.dtypes.float0)


_scan.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_sampled(ops, links, weights, mix, states, nodes, skip):
    return _sampled_nodes(ops, links, weights, mix, states, nodes, skip)[0]


def _sampled_forward(ops, links, weights, mix, states, nodes, skip):
    nodes, kept = _sampled_nodes(ops, links, weights, mix, states, nodes, skip)
    return nodes, (weights, mix, states, nodes, skip, kept)


@partial(jax.jit, static_argnums=(0, 1))  # as `_shared_nodes` is
def _sampled_nodes(ops, links, weights, mix, states, nodes, skip):
    def body(carry, edge):
        weights, row, (source, target), skipped, place = edge

        def advance(op, carry):
            nodes, kept = carry
            x = _read(nodes if states is None else states, source)
            between = jax.vjp(op.first, weights.get(op.name, {}), x)[0]
            y = jax.vjp(op.last, row, between, x)[0]
            if op.keep:
                kept = lax.dynamic_update_index_in_dim(kept, *jax.tree.leaves(between), place, 0)
            return _add(nodes, target, y), kept

        for op, chosen in _choices(ops, row, skipped):
            carry = _run_if(chosen, partial(advance, op), carry)
        return carry, None

    keeps = any(op is not None and op.keep for op in ops)
    kept = jnp.zeros((len(links) * keeps, *nodes.shape[1:]), nodes.dtype)
    edges = (weights, mix, _columns(links), skip, jnp.arange(len(links)))
    (nodes, kept), _ = lax.scan(body, (nodes, kept), edges)
    return nodes, kept


def _choices(ops, row, skipped):
    """(op, whether the edge runs it) of all ops that add anything."""
    number = jnp.where(skipped, len(ops), jnp.argmax(row))
    return [(op, number == place) for place, op in enumerate(ops) if op is not None]


def _run_if(whether, function, carry):
    """function(carry), or the carry as it is.

    A loop that turns once or never: XLA changes the carry of a loop in place, but copies what goes
    through a conditional, which here is the buffer of all states.
    """

    def turn(loop):
        return jnp.zeros_like(loop[0]), function(loop[1])

    return lax.while_loop(lambda loop: loop[0], turn, (whether, carry))[1]


def _sampled_backward(ops, links, saved, gradient):
    *_, skip, _ = saved
    return *_sampled_gradients(ops, links, saved, gradient), _no_gradient(skip)


@partial(jax.jit, static_argnums=(0, 1))
def _sampled_gradients(ops, links, saved, gradient):
    weights, mix, states, nodes, skip, kept = saved
    read = nodes if states is None else states

    def body(buffers, edge):
        weights, row, (source, target), skipped, place = edge

        def retreat(op, carry):
            buffers, _, _ = carry
            # Out of the buffer before anything is added to it: else XLA, which might read it later
            #   once more, copies all.
            g, x = _taken(buffers[1], target), _read(read, source)
            between, pull_first = jax.vjp(op.first, weights.get(op.name, {}), x)
            if op.keep:
                leaf = _read(kept, place)
                between = jax.tree.map(lambda _: leaf, between)
            of_row, of_between, of_x = jax.vjp(op.last, row, between, x)[1](g)
            of_own, more = pull_first(of_between)
            return _add_to_source(states is None, buffers, source, of_x + more), of_own, of_row

        of_weights, of_row = jax.tree.map(jnp.zeros_like, (weights, row))
        for op, chosen in _choices(ops, row, skipped):
            carry = buffers, of_weights.get(op.name, {}), of_row
            buffers, of_own, of_row = _run_if(chosen, partial(retreat, op), carry)
            of_weights |= {op.name: of_own} if op.name in weights else {}
        return buffers, (of_weights, of_row)

    first = None if states is None else jnp.zeros_like(states), gradient
    edges = (weights, mix, _columns(links), skip, jnp.arange(len(links)))
    (of_states, of_nodes), (of_weights, of_mix) = lax.scan(body, first, edges, reverse=True)
    return of_weights, of_mix, of_states, of_nodes


_scan_sampled.defvjp(_sampled_forward, _sampled_backward)


def _columns(links):
    return tuple(jnp.asarray(column, jnp.int32) for column in zip(*links, strict=True))


def _read(buffer, place, width=None):
    if width is not None:
        return lax.dynamic_slice_in_dim(buffer, place, width)
    return lax.dynamic_index_in_dim(buffer, place, 0, keepdims=False)


_taken = fence(_read)


def _add(buffer, place, y, width=None):
    # Added as the slice that it is: with its first axis taken off, XLA would copy it out of the
    #   buffer before it adds.
    y = y if width is not None else y[None]
    return lax.dynamic_update_slice_in_dim(buffer, _read(buffer, place, len(y)) + y, place, 0)
