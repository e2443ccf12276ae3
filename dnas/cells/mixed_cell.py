"""A cell of the supernet: a mixed op on every edge."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree, add_up
from dnas.cells.cell import run_cell
from dnas.cells.edge_ops import Edge, EdgeOps, rows_with, stacked_edges, weights_of_edge
from dnas.cells.mixed_op import MixedOp
from dnas.cells.norms import Norms
from dnas.cells.ops import edge_numbers
from dnas.graph import CellSpec, waves
from dnas.kernels.backend import on_cpu
from dnas.kernels.loops import EdgeArrays, EdgeLoop, edge_loop

SCHEDULES = ("edges", "waves", "unrolled")


def default_schedule() -> str:
    """Returns how the edges of a cell run on the device at hand, see `MixedCell`."""
    return "edges" if on_cpu() else "waves"


def checked_schedule(
    schedule: str | None, *, channels: int, partial_channels: int, sampled: bool
) -> str:
    """Returns how the edges of mixed cells run: the schedule, or the device's own where it is None.

    Raises:
      ValueError: for options that do not exist or do not fit each other.
    """
    if partial_channels < 1 or channels % partial_channels:
        raise ValueError(
            f"{channels} channels cannot be split in {partial_channels} parts; choose channels that"
            " are a multiple of partial_channels"
        )
    if schedule not in (None, *SCHEDULES):
        raise ValueError(
            f"schedule {schedule!r} does not exist; choose from: {', '.join(SCHEDULES)}, or None"
            " for the default"
        )
    if sampled and schedule == "waves":
        raise ValueError(
            "a sampled path runs one op an edge, but the schedule 'waves' runs all of them at once;"
            " use schedule='edges'"
        )
    return schedule or ("edges" if sampled else default_schedule())


def runs_waves(schedule: str, edge_ops: EdgeOps) -> bool:
    """Returns whether all edges that leave a node run at once."""
    return schedule == "waves" and not edge_ops.sets


class MixedCell(nn.Module):
    """A cell of the supernet: a mixed op on every edge.

    Its weights are stacked: "edges_stride_s" holds for each op those of all edges of stride s that
    have it, arrays [E', ...] in the order of `stacked_edges`.

    Args:
      spec: the graph; channels: of each node; stride: of the edges that leave the inputs, the
        others have 1.
      norms, partial_channels, sampled: as in `MixedOp`.
      schedule: "unrolled" writes out each edge with its own candidates, without a loop: the plain
        form, which the others equal, and what counts are read from. "edges" runs the edges one
        after the other in one compiled loop: what a CPU does best. "waves" runs all edges that
        leave a node as one op with one more axis: fewer and larger kernels. Edges with different
        candidates run one by one either way.
      remat: compute what an edge computed on the way again for the gradient and keep nothing of it.
        It saves memory, and on a CPU time. A sampled path without it keeps one array an edge on a
        CPU, what its last norm is applied to.
    """

    spec: CellSpec
    channels: int
    stride: int
    norms: Norms
    partial_channels: int = 1
    sampled: bool = False
    schedule: str = "edges"
    remat: bool = True

    @nn.compact
    def __call__(self, inputs: Sequence[Array], mix: Array) -> Array:
        """Returns [B, H/s, W/s, C * len(concat)] for inputs [B, H, W, C] each and mix [E, O] or [E,
        O, B]."""
        strides = stacked_edges(self.spec, self.stride)
        weights = {stride: self._weights(stride, inputs[0]) for stride in strides}
        if self.is_initializing():
            return jnp.concatenate([*self._nodes(inputs[0])[: len(self.spec.concat)]], axis=-1)
        if self.schedule == "unrolled":
            return self._unrolled(weights, tuple(inputs), mix)
        return self._loops(weights, tuple(inputs), mix)

    @property
    def edge_ops(self) -> EdgeOps:
        """What runs on the edges of the cell."""
        return EdgeOps((self.spec,), self.norms, self.partial_channels, self.sampled)

    def _weights(self, stride: int, x: Array) -> PyTree:
        name = f"edges_stride_{stride}"
        if self.has_variable("params", name):
            return self.get_variable("params", name)
        if not self.is_initializing():
            return {}  # no op of these edges has weights
        edges = stacked_edges(self.spec, self.stride)[stride]
        op = self.edge_ops.all_ops(self.channels, stride)
        keys = jax.random.split(self.make_rng("params"), len(edges))
        boxes = jax.vmap(lambda key: op.init(key, x))(keys)
        if self.spec.edge_ops is not None:
            boxes = {name: _rows(own, self.spec, edges, name) for name, own in boxes.items()}
            boxes = {name: own for name, own in boxes.items() if jax.tree.leaves(own)[0].size}
        if boxes:
            self.put_variable("params", name, boxes)
        return nn.meta.unbox(boxes)

    def _nodes(self, x: Array) -> Array:
        """The nodes of the cell before anything is added to them, [N, B, h, w, C]."""
        batch, height, width, channels = x.shape
        size = height // self.stride, width // self.stride
        return jnp.zeros((self.spec.num_nodes, batch, *size, channels), x.dtype)

    def _unrolled(self, weights: PyTree, inputs: Sequence[Array], mix: Array) -> Array:
        def run_edge(source, target, x):
            stride = self.stride if source < self.spec.num_inputs else 1
            edges = stacked_edges(self.spec, self.stride)[stride]
            row = self.spec.edges.index((source, target))
            ops = self.spec.ops if self.spec.edge_ops is None else self.spec.edge_ops[row]
            columns = np.asarray([self.spec.ops.index(op) for op in ops])
            numbers = jax.tree.map(lambda array: array[0], edge_numbers(ops, [(source, target)]))
            own = weights_of_edge(self.spec, edges, weights[stride], (source, target))
            options = self.norms, self.partial_channels, self.sampled
            op = MixedOp(ops, self.channels, stride, *options)
            return op(own | numbers, mix[row, columns], x)

        def run_wave(wave, xs):
            states = dict(zip(wave.sources, xs, strict=True))
            return [
                add_up(run_edge(source, target, states[source]) for source in wave.sources)
                for target in wave.targets
            ]

        order = waves(self.spec.edges, self.spec.num_inputs)
        return run_cell(order, self.spec.concat, run_wave, inputs)

    def _loops(self, weights: PyTree, inputs: Sequence[Array], mix: Array) -> Array:
        first, nodes = self.spec.num_inputs, self._nodes(inputs[0])
        for stride, edges in stacked_edges(self.spec, self.stride).items():
            rows = mix[np.asarray([self.spec.edges.index(edge) for edge in edges])]
            own = self.edge_ops.stack(self.spec, self.channels, stride, edges, weights[stride])
            if self.stride == 1:  # inputs and nodes have one shape and share a buffer
                buffer = jnp.concatenate([jnp.stack(inputs), nodes])
                arrays = EdgeArrays(own, rows, None, buffer)
                nodes = _loop(self, edges, stride)(arrays)[first:]
            elif stride > 1:
                links = [(source, target - first) for source, target in edges]
                arrays = EdgeArrays(own, rows, jnp.stack(inputs), nodes)
                nodes = _loop(self, links, stride)(arrays)
            else:
                links = [(source - first, target - first) for source, target in edges]
                nodes = _loop(self, links, stride)(EdgeArrays(own, rows, None, nodes))
        return jnp.concatenate([nodes[node - first] for node in self.spec.concat], axis=-1)


def _loop(cell: MixedCell, links: Sequence[Edge], stride: int) -> EdgeLoop:
    """The loop over edges of a cell."""
    run = cell.edge_ops.runner(cell.channels, stride)
    waves = runs_waves(cell.schedule, cell.edge_ops)
    return edge_loop(run, links, remat=cell.remat, waves=waves)


def _rows(boxes: PyTree, spec: CellSpec, edges: Sequence[Edge], op: str) -> PyTree:
    rows = rows_with(spec, edges, op)
    return jax.tree.map(lambda array: array[rows], boxes)


@partial(jax.jit, static_argnums=0)
def run_chain(cell: MixedCell, weights: Sequence[PyTree], x: Array, mix: Array) -> Array:
    """Returns what equal cells of one input and stride 1 make of x, one after the other, all with
    the same mix [E, O].

    All their edges run in one loop over one buffer of states, since the last node of a cell is the
    input of the next: what the gradient needs is that buffer as it stands, not a copy for each
    cell.

    Args:
      weights: of each cell, see `MixedCell`.
    """
    spec, count = cell.spec, len(weights)
    edges = stacked_edges(spec, 1)[1]
    links = [
        (first + source, first + target)
        for first in range(0, spec.num_nodes * count, spec.num_nodes)
        for source, target in edges
    ]
    stacks = []
    for of_cell in weights:
        own = of_cell.get("edges_stride_1", {})
        stacks.append(cell.edge_ops.stack(spec, cell.channels, 1, edges, own))
    own = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *stacks)
    rows = mix[np.asarray([spec.edges.index(edge) for edge in edges])]
    rows = jnp.tile(rows, (count, *[1] * (rows.ndim - 1)))
    states = jnp.concatenate([x[None], jnp.zeros((spec.num_nodes * count, *x.shape), x.dtype)])
    return _loop(cell, links, 1)(EdgeArrays(own, rows, None, states))[-1]
