"""A cell as a graph: its nodes and edges, and which of them are on a path from inputs to output.

Live paths are computed here, exactly for discrete cells (`live_edges`) and in expectation for
relaxed ones (`expected_reach`). An edge whose op computes nothing carries zeros, and so does one
all of whose sources do. What is left out depends on the runtime: some fold what is zero and drop
what nothing reads, some only the latter, and counts of networks as they are built leave out
nothing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dnas.base import AnyArray, Array
from dnas.checks import check_fields, one_of
from dnas.choices import NOTHING, Choices

LIVE = ("path", "output", "all")
_MOST_NODES = 12


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """The graph of one kind of cell: which edges there are and which ops compete on each.

    Nodes are numbered from 0, inputs first. Row e of a mix belongs to `edges[e]`, column o to
    `ops[o]`. Where edges have different candidates, as in the spaces of RobustDARTS, `ops` are
    those of any edge and `edge_ops` those of each.

    Raises:
      ValueError: if an edge does not lead from a node to a later, non-input node of the cell, or
        names repeat.
    """

    num_inputs: int
    num_nodes: int  # intermediate nodes, inputs not counted
    edges: tuple[tuple[int, int], ...]  # (source, target)
    ops: tuple[str, ...]
    concat: tuple[int, ...]  # the nodes whose concatenation is the output
    # of each edge; None where all edges have all ops
    edge_ops: tuple[tuple[str, ...], ...] | None = None
    # edges that a node of a genotype keeps; None where every edge keeps an op
    keep: int | None = None
    nothing: tuple[str, ...] = NOTHING  # names of ops that compute nothing, where there are such

    def __post_init__(self):
        check_fields(self)
        last = self.num_inputs + self.num_nodes - 1
        for source, target in self.edges:
            if not 0 <= source < target <= last or target < self.num_inputs:
                raise ValueError(
                    f"edge {(source, target)} does not lead to a later node among {self.num_inputs}"
                    f" to {last} of the cell"
                )
        if (
            not self.concat
            or not all(node in self.nodes for node in self.concat)
            or len(set(self.concat)) < len(self.concat)
        ):
            raise ValueError(
                f"concat names intermediate nodes, {self.num_inputs} to {last}, each once; got"
                f" {self.concat}"
            )
        if len(set(self.edges)) != len(self.edges) or len(set(self.ops)) != len(self.ops):
            raise ValueError(f"edges and ops of a cell are unique, got {self.edges} and {self.ops}")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"a node keeps at least one of its edges, got keep = {self.keep}")
        if self.edge_ops is None:
            return
        if len(self.edge_ops) != len(self.edges) or not all(self.edge_ops):
            raise ValueError(
                f"edge_ops names the ops of each of the {len(self.edges)} edges, got"
                f" {self.edge_ops}"
            )
        if unknown := {op for own in self.edge_ops for op in own} - set(self.ops):
            raise ValueError(
                f"edge_ops names {sorted(unknown)}, which are not among the ops of the cell,"
                f" {self.ops}"
            )

    @functools.cached_property
    def choices(self) -> Choices:
        """What is decided in the cell: an op for each edge; the edges into a node compete."""
        return Choices(
            options=tuple(self.ops),
            rows=tuple(f"{source}->{target}" for source, target in self.edges),
            row_options=self.edge_ops,
            nothing=tuple(op for op in self.ops if op in self.nothing),
            groups=tuple(self.incoming(node) for node in self.nodes),
            keep=self.keep,
        )

    def incoming(self, node: int) -> tuple[int, ...]:
        """Returns the row numbers of the edges that enter `node`."""
        return tuple(number for number, (_, target) in enumerate(self.edges) if target == node)

    @property
    def nodes(self) -> range:
        """The intermediate nodes."""
        return range(self.num_inputs, self.num_inputs + self.num_nodes)

    def live_edges_of(
        self, edges: Iterable[tuple[int, int, str]], live: str = "path"
    ) -> list[tuple[int, int, str]]:
        """Returns those of the edges (source, target, op) of a genotype that run, see
        `live_edges`."""
        computing = [edge for edge in edges if edge[2] not in self.nothing]
        pairs = {(source, target) for source, target, _ in computing}
        running = live_edges(pairs, self.num_inputs, self.concat, live)
        return [edge for edge in computing if (edge[0], edge[1]) in running]

    def live_rows(self, there: Iterable[int], live: str = "path") -> list[int]:
        """Returns those of the rows that run where the edges of these rows, and no others, compute
        something; see `live_edges`."""
        there = sorted(there)
        running = live_edges([self.edges[row] for row in there], self.num_inputs, self.concat, live)
        return [row for row in there if self.edges[row] in running]


class Wave(NamedTuple):
    """Edges that can run at once: all pairs of these sources and targets."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


def waves(edges: Sequence[tuple[int, int]], num_inputs: int) -> tuple[Wave, ...]:
    """Returns the edges grouped into waves, in an order in which every source is complete when its
    wave runs.

    A wave holds the edges that leave one node; the inputs of the cell share a wave if they lead to
    the same nodes.

    Example:
      >>> waves([(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], num_inputs=2)
      (Wave(sources=(0, 1), targets=(2, 3)), Wave(sources=(2,), targets=(3,)))
    """
    targets = {
        source: tuple(sorted(t for s, t in edges if s == source))
        for source in sorted({s for s, _ in edges})
    }
    inputs = [source for source in targets if source < num_inputs]
    if len({targets[source] for source in inputs}) == 1:
        groups = [inputs] + [[source] for source in targets if source >= num_inputs]
    else:
        groups = [[source] for source in targets]
    return tuple(Wave(tuple(group), targets[group[0]]) for group in groups)


def check_live(live: str) -> None:
    """Raises ValueError unless this is one of `LIVE`."""
    one_of(LIVE, live=live)


def live_edges(
    edges: Iterable[tuple[int, int]], num_inputs: int, concat: Iterable[int], live: str = "path"
) -> set[tuple[int, int]]:
    """Returns those of the edges (source, target) of a discrete cell that run.

    Args:
      edges: that compute something.
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


class Reach(NamedTuple):
    """Probabilities that what the edges of a relaxed cell make gets anywhere."""

    reached: Array  # [nodes] that data arrives from an input; inputs are reached
    needed: Array  # [nodes] that data leads on to the output


def expected_reach(spec: CellSpec, there: Array, *, kept: bool = False) -> Reach:
    """Returns what of a cell is connected whose edges compute something with the probabilities
    `there` [E].

    Exact where these are 0 or 1, and where edges are independent of each other: what is in front of
    the source of an edge and what is behind its target are different edges. It works on numpy and
    on JAX arrays.

    Args:
      kept: nodes keep some of their edges, so that these are not independent of each other: a node
        is then reached with the sum of the probabilities of its edges, at most 1, since it always
        keeps one.
    """
    xp = namespace(there)
    total = spec.num_inputs + spec.num_nodes
    if kept:
        reached = _reached_by_kept(xp, spec, there)
    else:
        reached = reached_nodes(xp, total, spec.edges, there, range(spec.num_inputs))
    backwards = [(total - 1 - target, total - 1 - source) for source, target in spec.edges]
    outputs = [total - 1 - node for node in spec.concat]
    return Reach(reached, reached_nodes(xp, total, backwards, there, outputs)[::-1])


def expected_live(spec: CellSpec, there: Array, *, live: str = "path", kept: bool = False) -> Array:
    """Returns the probability [E] that an edge runs if it is there, `live_edges` in expectation.

    Args:
      there, kept: as `expected_reach` has them.
      live: as `live_edges` has it.

    Raises:
      ValueError: for another `live`.
    """
    check_live(live)
    if live == "all":
        return namespace(there).ones_like(there)
    sources, targets = np.array(spec.edges).T
    reach = expected_reach(spec, there, kept=kept)
    if live == "output":
        return reach.needed[targets]
    return reach.needed[targets] * reach.reached[sources]


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
        if own and node not in starts:
            missed = (1 - xp.stack(open_)).prod()
        else:
            missed = xp.asarray(float(node not in starts))
        reached.append(1 - missed)
    return xp.stack(reached)


def _reached_by_kept(xp, spec: CellSpec, there: Array) -> Array:
    reached = [xp.ones((), there.dtype)] * spec.num_inputs
    for node in spec.nodes:
        own = list(spec.incoming(node))
        sources = xp.stack([reached[spec.edges[edge][0]] for edge in own])
        reached.append(at_most_one(xp, (there[np.array(own)] * sources).sum()))
    return xp.stack(reached)


def at_most_one(xp, values: Array) -> Array:
    """Returns min(values, 1), with the gradient of `values` where they are 1, as in a hard mix, or
    round to it."""
    return xp.where(values > 1 + 1e-5, 1.0, values)


def like(array: AnyArray, values: np.ndarray) -> Array:
    """Returns the values as an array of the module and the type of another one.

    Left to JAX, a constant of float64 would be what it was when it was first used, with
    `jax.enable_x64` or without.
    """
    return namespace(array).asarray(values, array.dtype)


def namespace(array: AnyArray) -> Any:
    """Returns the module whose functions take the array: numpy, or jax.numpy."""
    return np if isinstance(array, np.ndarray) else jnp
