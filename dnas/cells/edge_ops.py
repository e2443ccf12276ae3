"""What runs on the edges of cells, as functions of stacked weights, for the loops over edges."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.cells.init import cached_by_name, run_module
from dnas.cells.mixed_op import MixedOp, left_norm, left_norms, op_module, switch, weight_shapes
from dnas.cells.norms import Norms, Unnormed
from dnas.cells.ops import OPS, edge_numbers
from dnas.graph import CellSpec
from dnas.kernels.backend import on_cpu
from dnas.kernels.loops import OneOf, RunEdge, SampledOp, Shared
from dnas.kernels.norms import mixed_norm_sum
from dnas.kernels.sums import weighted_sum

Edge = tuple[int, int]


class EdgeOps(NamedTuple):
    """What runs on the edges of one or more kinds of cell, all with the same ops, though an edge
    may have some of them only.

    Edges run in one compiled loop, also where they have different candidates: their weights are
    filled up with zeros to those of all ops, and with them goes the number of the set of candidates
    to run.
    """

    specs: tuple[CellSpec, ...]
    norms: Norms
    partial_channels: int
    sampled: bool

    def runner(self, channels: int, stride: int) -> RunEdge | Shared | OneOf:
        """Returns what an edge runs, given a slice of what `stack` returns.

        A sampled edge is `OneOf` its ops on a CPU only: on an accelerator the CPU has to be asked
        whether each of their loops turns, and once where the mixed op switches between them.
        """
        return _runner(self, channels, stride, on_cpu())

    def all_ops(self, channels: int, stride: int) -> MixedOp:
        """Returns the mixed op that an edge with all candidates runs."""
        options = self.norms, self.partial_channels, self.sampled
        together = not (self.sampled or on_cpu())
        return MixedOp(self.specs[0].ops, channels, stride, *options, together=together)

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """The different candidates that edges have; none where all edges have all ops."""
        return tuple(dict.fromkeys(ops for spec in self.specs for ops in spec.edge_ops or ()))

    def stack(
        self, spec: CellSpec, channels: int, stride: int, edges: Sequence[Edge], weights: PyTree
    ) -> PyTree:
        """Returns arrays [E, ...], one entry an edge, of the weights [E', ...] of each op on those
        edges that have it."""
        numbers = edge_numbers(spec.ops, edges)
        if not self.sets:
            return {**weights, **numbers}
        leaves = jax.tree.leaves(weights)
        dtype = leaves[0].dtype if leaves else jnp.float32

        def fill(array, rows):
            return jnp.zeros((len(edges), *array.shape[1:]), dtype).at[rows].set(array)

        filled = {}
        for op, shapes in weight_shapes(self.all_ops(channels, stride)).items():
            nobody = jax.tree.map(lambda like: jnp.zeros((0, *like.shape), dtype), shapes)
            rows = rows_with(spec, edges, op)
            filled[op] = jax.tree.map(partial(fill, rows=rows), weights.get(op, nobody))
        of_edges = dict(zip(spec.edges, spec.edge_ops or (), strict=True))
        own = [self.sets.index(of_edges[edge]) for edge in edges]
        return np.asarray(own, np.int32), {**filled, **numbers}


# Jitted, so that each is traced once for all edges that have the same op and shapes.
_run_op = partial(jax.jit, static_argnums=0)(MixedOp.__call__)
_run_prepared = partial(jax.jit, static_argnums=0)(MixedOp.run)
_passing = partial(jax.jit, static_argnums=0)(MixedOp.passing)


@partial(jax.jit, static_argnums=(0, 1))
def _prepare(op: MixedOp, pools: tuple[str, ...], x: Array) -> PyTree:
    return op.prepare(x, pools)


@cached_by_name  # the same functions again, by which JAX knows what it has traced
def _runner(
    edge_ops: EdgeOps, channels: int, stride: int, on_cpu: bool
) -> RunEdge | Shared | OneOf:
    op = edge_ops.all_ops(channels, stride)
    if edge_ops.sets:
        branches = tuple(_of_set(op, ops) for ops in edge_ops.sets)
        return lambda weights, row, x: switch(branches, weights[0], weights[1], row, x)
    if edge_ops.sampled and on_cpu:
        return OneOf(tuple(_alone(op, number) for number in range(len(op.ops))))
    if edge_ops.sampled or not on_cpu:
        return partial(_run_op, op)
    prepare = partial(_prepare, op, _pools(op))
    return Shared(
        prepare, partial(_run_prepared, op), partial(_passing, op), alone=partial(_run_op, op)
    )


def _of_set(op: MixedOp, ops: tuple[str, ...]) -> RunEdge:
    """An edge that has these candidates only."""
    columns = np.asarray([op.ops.index(name) for name in ops])
    own = op.only(ops)
    return lambda weights, row, x: _run_op(own, weights, row[columns], x)


def _pools(op: MixedOp) -> tuple[str, ...]:
    """The candidates that make the same of an image on all edges, unless their norm has parameters,
    as pooling does."""
    if left_norm(op.norms, "pool") is None:
        return ()
    return tuple(name for name in op.ops if OPS[name].without_weights)


def _alone(op: MixedOp, number: int) -> SampledOp | None:
    """What an edge runs where this op is drawn; None where that adds nothing."""
    name, all_channels = op.ops[number], op.partial_channels == 1
    if all_channels and OPS[name].computes_nothing:
        return None
    module = op_module(OPS[name], op.width, op.stride, op.norms._replace(mixed=True))

    def first(weights, x):
        return run_module(module, weights, x[..., : op.width])

    def last(row, between, x):
        arrays, eps = left_norms([between])
        sum_of = mixed_norm_sum if any(eps) else lambda row, arrays, eps: weighted_sum(row, arrays)
        y = sum_of(row[number][None], arrays, eps)
        return op.beside(y, row, op.split(x)[1])

    own = weight_shapes(op).get(name, {})
    image = jax.ShapeDtypeStruct((1, 8, 8, op.channels), jnp.float32)
    between = jax.eval_shape(first, own, image)
    return SampledOp(name, first, last, keep=all_channels and isinstance(between, Unnormed))


def rows_with(spec: CellSpec, edges: Sequence[Edge], op: str) -> np.ndarray:
    """Returns the places of those edges that have an op."""
    column = spec.ops.index(op)
    allowed = [spec.choices.allowed[spec.edges.index(edge), column] for edge in edges]
    return np.flatnonzero(allowed)


def weights_of_edge(spec: CellSpec, edges: Sequence[Edge], weights: PyTree, edge: Edge) -> PyTree:
    """Returns the weights of one edge, {op: tree}, out of those of all `edges`, see `MixedCell`."""
    own = {}
    for op, stacked in weights.items():
        (places,) = np.nonzero(rows_with(spec, edges, op) == edges.index(edge))
        if places.size:
            place = int(places[0])
            own[op] = jax.tree.map(lambda array, place=place: array[place], stacked)
    return own


def stacked_edges(spec: CellSpec, stride: int) -> dict[int, list[Edge]]:
    """Returns {stride: edges} of a cell, by source, then target: the order of the weights of a
    `MixedCell`.

    Example:
      >>> import dnas
      >>> spec = dnas.SPACES["darts"].cells["reduce"]
      >>> {stride: len(edges) for stride, edges in stacked_edges(spec, 2).items()}
      {2: 8, 1: 6}
    """
    groups: dict[int, list[Edge]] = {}
    for source, target in sorted(spec.edges):
        groups.setdefault(stride if source < spec.num_inputs else 1, []).append((source, target))
    return groups


def weights_by_edge(spec: CellSpec, stride: int, cell: PyTree) -> PyTree:
    """Returns the weights of a `MixedCell` under the names of a `ChosenCell`: one entry an edge in
    place of one a stride."""
    found = {}
    for own_stride, edges in stacked_edges(spec, stride).items():
        weights = cell.get(f"edges_stride_{own_stride}", {})
        for edge in edges:
            found[f"edge_{edge[0]}_{edge[1]}"] = weights_of_edge(spec, edges, weights, edge)
    return found


def candidates_of(weights: PyTree) -> PyTree:
    """Returns the weights of a supernet with the name of the candidate that each array belongs to,
    such as "cell_0-cell-edges_stride_1-sep_conv_3x3", in place of the array; "" where it belongs to
    none.

    Arrays of a candidate are [E', ...], see `MixedCell`: one entry for each edge that has it.
    """

    def name_of(path, array) -> str:
        del array
        keys = [str(key.key) for key in path]
        for place, key in enumerate(keys):
            if key.startswith("edges_stride_"):
                return "-".join(keys[: place + 2])
        return ""

    return jax.tree_util.tree_map_with_path(name_of, weights)
