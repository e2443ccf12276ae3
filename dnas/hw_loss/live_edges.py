"""Which edges of a cell a runtime runs: those on a live path from an input of the cell to its
output.

An edge of `none` carries zeros, and so does one all of whose sources do. What is left out depends
on the runtime: some fold what is zero and drop what nothing reads, some only the latter, and counts
of networks as they are built leave out nothing.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from dnas.base import Array
from dnas.space import CellSpec

LIVE = ("path", "output", "all")
_MOST_NODES = 12


def check_live(live: str) -> None:
    """Raises ValueError unless this is one of `LIVE`."""
    if live not in LIVE:
        raise ValueError(f"live = {live!r} does not exist; choose from: {', '.join(LIVE)}")


def live_edges(
    edges: Iterable[tuple[int, int]], num_inputs: int, concat: Iterable[int], live: str = "path"
) -> set[tuple[int, int]]:
    """Returns those of the edges (source, target) that run.

    Args:
      edges: that are there, `none` not among them.
      num_inputs, concat: the first nodes are inputs of the cell; these nodes are its output.
      live: "path": what an input reaches and what reaches the output; "output": the latter only;
        "all": every edge.

    Raises:
      ValueError: for another `live`.

    Example:
      >>> (
      ...     sorted(live_edges([(0, 1), (1, 3), (2, 3), (0, 4)], 1, [3])),
      ...     sorted(live_edges([(2, 3), (0, 4)], 1, [3], "output")),
      ... )
      ([(0, 1), (1, 3)], [(2, 3)])
    """
    check_live(live)
    edges = sorted(edges)
    if live == "all":
        return set(edges)
    reached, needed = set(range(num_inputs)), set(concat)
    for source, target in edges:  # sources before their targets: all edges lead to later nodes
        if source in reached or live == "output":
            reached |= {source, target}
    for source, target in reversed(edges):
        if target in needed:
            needed.add(source)
    return {(source, target) for source, target in edges if source in reached and target in needed}


def make_liveness(
    spec: CellSpec, certain: np.ndarray, *, live: str, kept: bool
) -> Callable[[Array], Array]:
    """Returns the function from the probability that each edge is there, [E], to that of each to
    run if it is there, [E].

    An edge runs if its source is reached and its target needed, which are independent: what is in
    front of the source and what is behind the target are different edges. Where all edges are there
    with probability 0 or 1 the result is exact; in between it is where edges are there
    independently of each other. It works on numpy and on JAX arrays.

    Args:
      certain: bool [E], edges that are always there.
      kept: nodes keep some of their edges, so that these are not independent of each other: a node
        is then reached with the sum of the probabilities of its edges, at most 1, since it always
        keeps one.
    """
    sources, targets = np.array(spec.edges).T
    if live == "all" or np.all(certain):
        always = live_edges(spec.edges, spec.num_inputs, spec.concat, live)
        return lambda there: np.array([float(edge in always) for edge in spec.edges])
    total = spec.num_inputs + spec.num_nodes
    backwards = [(total - 1 - target, total - 1 - source) for source, target in spec.edges]
    inputs, outputs = range(spec.num_inputs), [total - 1 - node for node in spec.concat]

    def liveness(there: Array) -> Array:
        xp = namespace(there)
        needed = reached_nodes(xp, total, backwards, there, outputs)[::-1][targets]
        if live == "output":
            return needed
        if kept:
            return needed * _fed_nodes(xp, spec, there)[sources]
        return needed * reached_nodes(xp, total, spec.edges, there, inputs)[sources]

    return liveness


def reached_nodes(
    xp, num_nodes: int, edges: Sequence[tuple[int, int]], there: Array, starts: Sequence[int]
) -> Array:
    """Returns [nodes] the probabilities that nodes are reached from any of `starts`, over edges
    that are there independently.

    Exact up to 12 nodes besides those, by summing over all sets of nodes that may be reached;
    beyond, as if no two paths to a node shared an edge.
    """
    inner = [node for node in range(num_nodes) if node not in starts]
    if len(inner) > _MOST_NODES:
        return _reached_by_products(xp, num_nodes, edges, there, starts)
    reached = np.ones((2 ** len(inner), num_nodes), bool)  # [sets, nodes]
    reached[:, inner] = list(itertools.product((False, True), repeat=len(inner)))
    chance = xp.ones(len(reached), there.dtype)
    for node in inner:
        own = [number for number, (_, target) in enumerate(edges) if target == node]
        open_ = reached[:, [edges[number][0] for number in own]]
        missed = xp.where(open_, 1 - there[np.array(own, int)], 1.0).prod(axis=-1)
        chance = chance * xp.where(reached[:, node], 1 - missed, missed)
    return chance @ reached.astype(there.dtype)


def _reached_by_products(xp, num_nodes, edges, there, starts) -> Array:
    reached = []
    for node in range(num_nodes):
        own = [number for number, (_, target) in enumerate(edges) if target == node]
        open_ = [there[number] * reached[edges[number][0]] for number in own]
        missed = (
            (1 - xp.stack(open_)).prod()
            if own and node not in starts
            else xp.asarray(float(node not in starts))
        )
        reached.append(1 - missed)
    return xp.stack(reached)


def _fed_nodes(xp, spec: CellSpec, there: Array) -> Array:
    fed = [xp.ones((), there.dtype)] * spec.num_inputs
    for node in spec.nodes:
        own = list(spec.incoming(node))
        fed.append(
            at_most_one(
                xp,
                (there[np.array(own)] * xp.stack([fed[spec.edges[edge][0]] for edge in own])).sum(),
            )
        )
    return xp.stack(fed)


def at_most_one(xp, values: Array) -> Array:
    """Returns min(values, 1), with the gradient of `values` where they are 1, as in a hard mix, or
    round to it."""
    return xp.where(values > 1 + 1e-5, 1.0, values)


def namespace(array: Array):
    """Returns the module whose functions take the array: numpy, or jax.numpy."""
    return np if isinstance(array, np.ndarray) else jnp
