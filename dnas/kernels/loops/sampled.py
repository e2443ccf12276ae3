"""One edge after the other, where each runs one of several ops, and only that one."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree, custom_vjp
from dnas.kernels.loops.arrays import (
    EdgeArrays,
    EdgeLoop,
    Gradients,
    Links,
    add,
    columns,
    no_gradient,
    read,
    run_if,
    taken,
)


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
    nothing, and neither does an edge whose row is zero."""

    ops: tuple[SampledOp | None, ...]


def sampled_loop(one_of: OneOf, links: Links, *, remat: bool) -> EdgeLoop:
    """Returns the loop in which each edge runs the op that is chosen, forward and backward.

    The backward pass computes again what ops do not ask to be kept: which one runs is not known
    when memory is laid out.

    Args:
      remat: whether it computes the others again as well.

    Raises:
      ValueError: when run, for a mix of each sample.
    """
    ops = tuple(op and op._replace(keep=op.keep and not remat) for op in one_of.ops)

    def loop(arrays: EdgeArrays) -> Array:
        if arrays.mix.ndim != 2:
            raise ValueError(
                "a sampled path is one for the whole batch; with a mix for each sample give"
                " sampled=False"
            )
        if arrays.skip is None:
            arrays = arrays._replace(skip=np.zeros(len(links), bool))
        return _scan(ops, tuple(links), arrays)

    return loop


@custom_vjp(nondiff_argnums=(0, 1))
def _scan(ops, links: Links, arrays: EdgeArrays) -> Array:
    return _nodes(ops, links, arrays)[0]


def _forward(ops, links, arrays):
    nodes, kept = _nodes(ops, links, arrays)
    return nodes, (arrays._replace(nodes=nodes), kept)


@partial(jax.jit, static_argnums=(0, 1))  # as that of `shared.py` is
def _nodes(ops, links: Links, arrays: EdgeArrays) -> tuple[Array, Array]:
    def body(carry, edge):
        weights, row, (source, target), skipped, place = edge

        def advance(op, carry):
            nodes, kept = carry
            x = read(arrays._replace(nodes=nodes).read, source)
            between = jax.vjp(op.first, weights.get(op.name, {}), x)[0]
            y = jax.vjp(op.last, row, between, x)[0]
            if op.keep:
                kept = lax.dynamic_update_index_in_dim(kept, *jax.tree.leaves(between), place, 0)
            return add(nodes, target, y), kept

        for op, chosen in _choices(ops, row, skipped):
            carry = run_if(chosen, partial(advance, op), carry)
        return carry, None

    nodes, keeps = arrays.nodes, any(op is not None and op.keep for op in ops)
    kept = jnp.zeros((len(links) * keeps, *nodes.shape[1:]), nodes.dtype)
    edges = (arrays.weights, arrays.mix, columns(links), arrays.skip, jnp.arange(len(links)))
    (nodes, kept), _ = lax.scan(body, (nodes, kept), edges)
    return nodes, kept


def _choices(ops, row: Array, skipped: Array) -> list[tuple[SampledOp, Array]]:
    """(op, whether the edge runs it) of all ops that add anything."""
    number = jnp.where(skipped | jnp.all(row == 0), len(ops), jnp.argmax(row))
    return [(op, number == place) for place, op in enumerate(ops) if op is not None]


def _backward(ops, links, saved, gradient):
    found = _gradients(ops, links, saved, gradient)
    return (found._replace(skip=no_gradient(saved[0].skip)),)


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(ops, links: Links, saved: tuple[EdgeArrays, Array], gradient: Array) -> EdgeArrays:
    arrays, kept = saved

    def body(gradients, edge):
        weights, row, (source, target), skipped, place = edge

        def retreat(op, carry):
            gradients, _, _ = carry
            g, x = taken(gradients.nodes, target), read(arrays.read, source)
            between, pull_first = jax.vjp(op.first, weights.get(op.name, {}), x)
            if op.keep:
                leaf = read(kept, place)
                between = jax.tree.map(lambda _: leaf, between)
            of_row, of_between, of_x = jax.vjp(op.last, row, between, x)[1](g)
            of_own, more = pull_first(of_between)
            return gradients.plus(source, of_x + more), of_own, of_row

        of_weights, of_row = jax.tree.map(jnp.zeros_like, (weights, row))
        for op, chosen in _choices(ops, row, skipped):
            carry = gradients, of_weights.get(op.name, {}), of_row
            gradients, of_own, of_row = run_if(chosen, partial(retreat, op), carry)
            of_weights |= {op.name: of_own} if op.name in weights else {}
        return gradients, (of_weights, of_row)

    first = Gradients.of(arrays, gradient)
    edges = (arrays.weights, arrays.mix, columns(links), arrays.skip, jnp.arange(len(links)))
    (of_states, of_nodes), (of_weights, of_mix) = lax.scan(body, first, edges, reverse=True)
    return EdgeArrays(of_weights, of_mix, of_states, of_nodes)


_scan.defvjp(_forward, _backward)
