"""What runs on the edges of a cell: every candidate, weighted, in the supernet; the chosen ones in
a final network."""

import functools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
from dnas.cells.cell import run_cell, waves
from dnas.cells.norms import LeftToSum, Norms, Unnormed
from dnas.cells.ops import OPS, FactorizedReduce, ReLUConvBN, edge_numbers
from dnas.cells.separable import separable_sum
from dnas.kernels.backend import on_cpu
from dnas.kernels.loops.edges import OneOf, RunEdge, SampledOp, Shared, scan_edges
from dnas.kernels.loops.stages import StageOps
from dnas.kernels.norms import mixed_norm_sum
from dnas.kernels.pooling import max_pool
from dnas.kernels.sums import scaled, weighted_sum
from dnas.space import CellSpec

SCHEDULES = ("edges", "waves", "unrolled")


def default_schedule() -> str:
    """Returns how the edges of a cell run on the device at hand, see `MixedCell`."""
    return "edges" if on_cpu() else "waves"


def runs_waves(schedule: str, candidates: "Candidates") -> bool:
    """Whether all edges that leave a node run at once."""
    return schedule == "waves" and not candidates.sets


def _mixed(mix: Array, ops: Sequence[Array | Unnormed]) -> Array:
    """The weighted sum of what ops return, mix [N] or [N, B]; norms that they leave to be done are
    part of it."""
    if mix.ndim > 1 or not any(isinstance(op, Unnormed) for op in ops):
        return weighted_sum(mix, [op.normed() if isinstance(op, Unnormed) else op for op in ops])
    arrays, eps = zip(
        *((op.x, op.eps) if isinstance(op, Unnormed) else (op, None) for op in ops), strict=True
    )
    return mixed_norm_sum(mix, list(arrays), eps)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switch(branches, number, *args):
    """branches[number](*args): only this one runs, forward and backward.

    The automatic gradient of `lax.switch` keeps what the gradient of any branch might need, filled
    with zeros for those that have not run; here the backward pass is a switch of its own, over
    branches that run again.
    """
    return _switch_fwd(branches, number, *args)[0]


def _switch_fwd(branches, number, *args):
    def valued(branch):  # the value that comes with a gradient, as in `scan_edges`
        return lambda *args: jax.vjp(branch, *args)[0]

    return lax.switch(number, [valued(branch) for branch in branches], *args), (number, *args)


def _switch_bwd(branches, saved, g):
    def pull_back(branch):
        return lambda args, g: jax.vjp(branch, *args)[1](g)

    number, *args = saved
    return np.zeros((), jax.dtypes.float0), *lax.switch(
        number, [pull_back(branch) for branch in branches], args, g
    )


_switch.defvjp(_switch_fwd, _switch_bwd)


def run_sampled(ops, number, weights, mix, x):
    """Returns mix[number] * ops[number](weights, x): only this op runs, forward and backward."""
    return _switch(
        tuple(partial(_scaled, op, place) for place, op in enumerate(ops)), number, weights, mix, x
    )


def _scaled(op, place, weights, mix, x):
    return mix[place].astype(x.dtype) * op(weights, x)


def shuffle(x: Array, groups: int) -> Array:
    """Returns x [B, H, W, C] with its channels regrouped: channel (g, c) of `groups` groups goes to
    place (c, g).

    PC-DARTS, section 3.1 and released code; ShuffleNet, https://arxiv.org/abs/1707.01083. With C /
    groups for groups it is its own inverse.
    """
    if on_cpu():
        return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
    # Without a transpose, for which XLA:GPU would lay out all that is near with the channels first,
    # and turn it back again.
    return jnp.stack(jnp.split(x, groups, axis=-1), axis=-1).reshape(x.shape)


class MixedOp(nn.Module):
    """The weighted sum of all candidates: sum_o mix[o] * op_o(x). DARTS, eq. 2,
    https://arxiv.org/abs/1806.09055.

    Args:
      ops: names in `OPS`, one a column of the mix.
      channels, stride, norms: of the candidates.
      partial_channels: K of PC-DARTS, https://arxiv.org/abs/1907.05737, section 3.1: the candidates
        see the first 1/K of the channels and are built for C/K; the others pass by, through a 2x2
        max pooling where the edge strides; at the end the channels are shuffled in K groups. What
        passes by is weighted by the sum of the row of the mix: by one as a rule, by the edge's
        weight where edges have weights, and by zero where an edge has been dropped.
      sampled: run only the op that has the largest weight, as GDAS does,
        https://arxiv.org/abs/1910.04465: for a mix of one-hot rows, whose value it equals.
        Gradients reach that op and its entry of the mix; the others are zero.
      together: run separable convolutions as one, see `separable_sum`; it changes the kernels that
        run, and values by rounding.
    """

    ops: tuple[str, ...]
    channels: int
    stride: int
    norms: Norms
    partial_channels: int = 1
    sampled: bool = False
    together: bool = False

    @nn.compact
    def __call__(self, x: Array, mix: Array, passed: "Passed | None" = None) -> Array:
        """Returns [B, H/s, W/s, C] for x [B, H, W, C] and mix [O], or [O, B] where every sample has
        its own.

        What does not depend on weights or mix may be given, see `Passed`; x is then the part that
        candidates see.
        """
        if passed is None:
            x, rest = _parts(x, self.stride, self.partial_channels)
            passed = Passed({}, rest)
        width = self.channels // self.partial_channels
        candidates = self._candidates(width, name=True)
        if self.sampled and not self.is_initializing():
            if mix.ndim != 1:
                raise ValueError(
                    "a sampled path is one for the whole batch; with a mix for each sample give"
                    " sampled=False"
                )
            y = self._sample(width, mix, x)
        else:
            # `none` adds nothing, so it is neither computed nor summed; its entry of the mix gets a
            # gradient of zero.
            kept = [number for number, op in enumerate(self.ops) if not OPS[op].computes_nothing]
            y = self._sum(candidates, kept, x, mix, passed.outputs) if kept else candidates[0](x)
        return _beside(y, mix, passed.rest, self.partial_channels)

    def _sum(
        self, candidates, kept: Sequence[int], x: Array, mix: Array, outputs: dict[str, Array]
    ) -> Array:
        terms, norm = [], self._norms.last()
        if (
            self.together
            and mix.ndim == 1
            and not self.is_initializing()
            and isinstance(norm, LeftToSum)
        ):
            alike = [number for number in kept if OPS[self.ops[number]].separable is not None]
            if len(alike) > 1:
                weights = nn.meta.unbox(self.variables["params"])
                forms = [OPS[self.ops[number]].separable for number in alike]
                own = [weights[self.ops[number]] for number in alike]
                row = mix[np.asarray(alike)]
                terms.append(separable_sum(row, forms, own, x, self.stride, norm.eps))
                kept = [number for number in kept if number not in alike]
        if kept:
            ys = [
                outputs[self.ops[n]] if self.ops[n] in outputs else candidates[n](x) for n in kept
            ]
            terms.append(_mixed(mix[np.asarray(kept)], ys))
        return sum(terms[1:], terms[0])

    @property
    def _norms(self) -> Norms:
        return self.norms._replace(mixed=not self.sampled)

    def _candidates(self, channels: int, name: bool) -> list[nn.Module]:
        sizes = dict(channels=channels, stride=self.stride)
        if name:
            return [OPS[op](**sizes, norms=self._norms, name=op) for op in self.ops]
        return [OPS[op](**sizes, norms=self.norms).clone(parent=None) for op in self.ops]

    def _sample(self, channels: int, mix: Array, x: Array) -> Array:
        def pure(module, name):
            return lambda weights, x: module.apply({"params": weights.get(name, {})}, x)

        weights = dict(self.variables.get("params", {}))
        detached = self._candidates(channels, name=False)
        ops = [pure(module, name) for module, name in zip(detached, self.ops, strict=True)]
        return run_sampled(ops, jnp.argmax(mix), weights, mix, x)


class Passed(NamedTuple):
    """What of an image is only weighted by a mixed op: the same for all that differ in weights and
    mix alone."""

    outputs: dict[str, Array]  # of pooling, normed
    rest: Array | None  # the channels that no candidate sees


def _parts(x: Array, stride: int, partial_channels: int) -> tuple[Array, Array | None]:
    """What the candidates of a mixed op read of x, and what passes by, in the size of the
    output."""
    if partial_channels == 1:
        return x, None
    width = x.shape[-1] // partial_channels
    rest = x[..., width:]
    return x[..., :width], max_pool(rest, stride, window=2) if stride > 1 else rest


def _beside(y: Array, mix: Array, rest: Array | None, partial_channels: int) -> Array:
    """The output of a mixed op whose candidates make y of a part of the channels, the others
    passing by."""
    if partial_channels == 1:
        return y
    return shuffle(jnp.concatenate([y, scaled(mix.sum(0), rest)], axis=-1), partial_channels)


class MixedCell(nn.Module):
    """A cell of the supernet: a mixed op on every edge.

    Its weights are stacked: "edges_stride_s" holds for each op those of all edges of stride s that
    have it, arrays [E', ...] in the order of `stacked_edges`.

    Args:
      spec: the graph; channels: of each node; stride: of the edges that leave the inputs, the
        others have 1.
      norms, partial_channels, sampled: as in `MixedOp`.
      schedule: "edges" runs the edges one after the other, see `scan_edges`: what a CPU does best.
        "waves" runs all edges that leave a node as one op with one more axis: fewer and larger
        kernels. Edges with different candidates run one by one either way. "unrolled" writes out
        each edge with its own candidates, without a loop: what counts are read from.
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
        weights = {
            stride: self._weights(stride, inputs[0])
            for stride in stacked_edges(self.spec, self.stride)
        }
        if self.is_initializing():
            batch, height, width, channels = inputs[0].shape
            shape = (
                batch,
                height // self.stride,
                width // self.stride,
                channels * len(self.spec.concat),
            )
            return jnp.zeros(shape, inputs[0].dtype)
        return (self._unrolled if self.schedule == "unrolled" else self._scan)(
            weights, tuple(inputs), mix
        )

    @property
    def waves(self) -> bool:
        """Whether all edges that leave a node run at once."""
        return runs_waves(self.schedule, self.candidates)

    @property
    def candidates(self) -> "Candidates":
        """What runs on the edges of the cell."""
        return Candidates((self.spec,), self.norms, self.partial_channels, self.sampled)

    def _weights(self, stride: int, x: Array) -> PyTree:
        name = f"edges_stride_{stride}"
        if self.has_variable("params", name):
            return self.get_variable("params", name)
        if not self.is_initializing():
            return {}  # no op of these edges has weights
        edges, op = (
            stacked_edges(self.spec, self.stride)[stride],
            self.candidates.all_ops(self.channels, stride),
        )
        keys = jax.random.split(self.make_rng("params"), len(edges))
        boxes = jax.vmap(lambda key: op.init(key, x, jnp.zeros(len(self.spec.ops), x.dtype)))(
            keys
        ).get("params", {})
        if self.spec.edge_ops is not None:
            rows = {op: _rows_with(self.spec, edges, op) for op in boxes}
            boxes = {
                op: jax.tree.map(lambda array, op=op: array[rows[op]], boxes[op])
                for op in boxes
                if rows[op].size
            }
        if boxes:
            self.put_variable("params", name, boxes)
        return nn.meta.unbox(boxes)

    def _scan(self, weights, inputs, mix):
        first = self.spec.num_inputs
        batch, height, width, channels = inputs[0].shape
        nodes = jnp.zeros(
            (self.spec.num_nodes, batch, height // self.stride, width // self.stride, channels),
            inputs[0].dtype,
        )
        for stride, edges in stacked_edges(self.spec, self.stride).items():
            rows = mix[np.asarray([self.spec.edges.index(edge) for edge in edges])]
            run = self.candidates.runner(self.channels, stride)
            scan = partial(scan_edges, run, remat=self.remat, waves=self.waves)
            own = self.candidates.stack(self.spec, self.channels, stride, edges, weights[stride])
            if self.stride == 1:  # inputs and nodes have one shape and share a buffer
                nodes = scan(edges, own, rows, None, jnp.concatenate([jnp.stack(inputs), nodes]))[
                    first:
                ]
            else:
                reads_inputs = stride > 1
                links = [
                    (source if reads_inputs else source - first, target - first)
                    for source, target in edges
                ]
                nodes = scan(links, own, rows, jnp.stack(inputs) if reads_inputs else None, nodes)
        return jnp.concatenate([nodes[node - first] for node in self.spec.concat], axis=-1)

    def _unrolled(self, weights, inputs, mix):
        def run_edge(source, target, x):
            stride = self.stride if source < self.spec.num_inputs else 1
            edges, row = (
                stacked_edges(self.spec, self.stride)[stride],
                self.spec.edges.index((source, target)),
            )
            ops = self.spec.ops if self.spec.edge_ops is None else self.spec.edge_ops[row]
            columns = np.asarray([self.spec.ops.index(op) for op in ops])
            numbers = jax.tree.map(lambda array: array[0], edge_numbers(ops, [(source, target)]))
            own = {
                **_weights_of_edge(self.spec, edges, weights[stride], (source, target)),
                **numbers,
            }
            op = MixedOp(
                ops,
                self.channels,
                stride,
                self.norms,
                self.partial_channels,
                self.sampled,
                parent=None,
            )
            return _run_op(op, own, mix[row, columns], x)

        def run_wave(wave, xs):
            states = dict(zip(wave.sources, xs, strict=True))
            pairs = [[(source, target) for source in wave.sources] for target in wave.targets]
            return [
                sum(run_edge(source, target, states[source]) for source, target in own)
                for own in pairs
            ]

        return run_cell(
            waves(self.spec.edges, self.spec.num_inputs), self.spec.concat, run_wave, inputs
        )


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
    spec, candidates = cell.spec, cell.candidates
    edges = stacked_edges(spec, 1)[1]
    links = [
        (first + source, first + target)
        for first in range(0, spec.num_nodes * len(weights), spec.num_nodes)
        for source, target in edges
    ]
    own = [
        candidates.stack(spec, cell.channels, 1, edges, of_cell.get("edges_stride_1", {}))
        for of_cell in weights
    ]
    own = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *own)
    rows = mix[np.asarray([spec.edges.index(edge) for edge in edges])]
    rows = jnp.tile(rows, (len(weights), *[1] * (rows.ndim - 1)))
    states = jnp.concatenate(
        [x[None], jnp.zeros((spec.num_nodes * len(weights), *x.shape), x.dtype)]
    )
    run = candidates.runner(cell.channels, 1)
    return scan_edges(run, links, own, rows, None, states, remat=cell.remat, waves=cell.waves)[-1]


class Candidates(NamedTuple):
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

    def runner(self, channels: int, stride: int) -> RunEdge | OneOf:
        """Returns what an edge runs, given a slice of what `stack` returns.

        A sampled edge is `OneOf` its ops on a CPU only: on an accelerator the CPU has to be asked
        whether each of their loops turns, and once where the mixed op switches between them.
        """
        return _runner(self, channels, stride, on_cpu())

    def _pools(self, op: "MixedOp") -> tuple[tuple[str, nn.Module], ...]:
        """The pooling among the candidates, which makes the same of an image on all edges, unless
        its norm has parameters."""
        if not isinstance(self.norms._replace(mixed=True).last("pool"), LeftToSum):
            return ()
        fields = dict(
            channels=op.channels // op.partial_channels, stride=op.stride, norms=self.norms
        )
        pools = [name for name in op.ops if OPS[name].without_weights]
        return tuple((name, OPS[name](**fields).clone(parent=None)) for name in pools)

    def _alone(self, op: "MixedOp", number: int) -> SampledOp | None:
        """What an edge runs where this op is drawn; None where that adds nothing."""
        name, parts = op.ops[number], self.partial_channels
        if parts == 1 and OPS[name].computes_nothing:
            return None
        width, norms = op.channels // parts, self.norms._replace(mixed=True)
        module = OPS[name](channels=width, stride=op.stride, norms=norms).clone(parent=None)

        def first(weights, x):
            return _run_module(module, weights, x[..., :width])

        def last(row, between, x):
            return _beside(
                _mixed(row[number][None], [between]), row, _parts(x, op.stride, parts)[1], parts
            )

        between = jax.eval_shape(
            first,
            _weight_shapes(op).get(name, {}),
            jax.ShapeDtypeStruct((1, 8, 8, op.channels), jnp.float32),
        )
        return SampledOp(name, first, last, keep=parts == 1 and isinstance(between, Unnormed))

    def stack(
        self,
        spec: CellSpec,
        channels: int,
        stride: int,
        edges: Sequence[tuple[int, int]],
        weights: PyTree,
    ) -> PyTree:
        """Returns arrays [E, ...], one entry an edge, of the weights [E', ...] of each op on those
        edges that have it."""
        numbers = edge_numbers(spec.ops, edges)
        if not self.sets:
            return {**weights, **numbers}
        dtype = next((array.dtype for array in jax.tree.leaves(weights)), jnp.float32)

        def fill(array, rows):
            return jnp.zeros((len(edges), *array.shape[1:]), dtype).at[rows].set(array)

        filled = {}
        for op, shapes in _weight_shapes(self.all_ops(channels, stride)).items():
            nobody = jax.tree.map(lambda like: jnp.zeros((0, *like.shape), dtype), shapes)
            rows = _rows_with(spec, edges, op)
            filled[op] = jax.tree.map(partial(fill, rows=rows), weights.get(op, nobody))
        own = [self.sets.index(spec.edge_ops[spec.edges.index(edge)]) for edge in edges]
        return np.asarray(own, np.int32), {**filled, **numbers}

    def all_ops(self, channels: int, stride: int) -> "MixedOp":
        """The mixed op that an edge with all candidates runs."""
        sizes = self.specs[0].ops, channels, stride, self.norms, self.partial_channels, self.sampled
        return MixedOp(*sizes, together=not (self.sampled or on_cpu()), parent=None)

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """The different candidates that edges have; none where all edges have all ops."""
        return tuple(dict.fromkeys(ops for spec in self.specs for ops in spec.edge_ops or ()))


@functools.cache  # the same functions again, by which JAX knows what it has traced
def _runner(candidates: Candidates, channels: int, stride: int, on_cpu: bool) -> RunEdge | OneOf:
    if not candidates.sets:
        op = candidates.all_ops(channels, stride)
        if candidates.sampled and on_cpu:
            return OneOf(tuple(candidates._alone(op, number) for number in range(len(op.ops))))
        if not on_cpu or candidates.sampled:
            return partial(_run_op, op)
        steps = (
            partial(_prepare, op, candidates._pools(op)),
            partial(_run_prepared, op),
            partial(_passing, op),
        )
        return Shared(*steps, alone=partial(_run_op, op))

    def branch(ops):
        columns = np.asarray([candidates.specs[0].ops.index(op) for op in ops])
        own = candidates.all_ops(channels, stride).clone(ops=ops)
        return lambda weights, row, x: _run_op(own, weights, row[columns], x)

    branches = tuple(branch(ops) for ops in candidates.sets)
    return lambda weights, row, x: _switch(branches, weights[0], weights[1], row, x)


@functools.cache
def _weight_shapes(op: MixedOp) -> PyTree:
    """The shapes of the weights of one edge, {op: tree}."""
    x, mix = jnp.zeros((1, 4, 4, op.channels)), jnp.zeros(len(op.ops))
    return nn.meta.unbox(jax.eval_shape(op.init, jax.random.key(0), x, mix)).get("params", {})


def _rows_with(spec: CellSpec, edges: Sequence[tuple[int, int]], op: str) -> np.ndarray:
    """The places of those edges that have an op."""
    column = spec.ops.index(op)
    return np.asarray(
        [n for n, edge in enumerate(edges) if spec.allowed[spec.edges.index(edge), column]], int
    )


def _weights_of_edge(
    spec: CellSpec, edges: Sequence[tuple[int, int]], weights: PyTree, edge: tuple[int, int]
) -> PyTree:
    """The weights of one edge, {op: tree}, out of those of all `edges`, see `MixedCell`."""
    own = {}
    for op, stacked in weights.items():
        rows = _rows_with(spec, edges, op)
        if (place := np.flatnonzero(rows == edges.index(edge))).size:
            own[op] = jax.tree.map(lambda array, place=int(place[0]): array[place], stacked)
    return own


@partial(jax.jit, static_argnums=0)
def _run_op(op: MixedOp, weights: PyTree, mix: Array, x: Array) -> Array:
    """One edge as a function of its weights; traced once for all edges that have the same op and
    shapes."""
    return op.apply({"params": weights}, x, mix)


@partial(jax.jit, static_argnums=(0, 1))
def _prepare(
    op: MixedOp, pools: tuple[tuple[str, nn.Module], ...], x: Array
) -> tuple[Array, Passed]:
    """Returns what depends on x alone: the part of it that candidates see, and what is passed."""
    part, rest = _parts(x, op.stride, op.partial_channels)
    return part, Passed({name: module.apply({}, part) for name, module in pools}, rest)


@partial(jax.jit, static_argnums=0)
def _run_prepared(op: MixedOp, weights: PyTree, mix: Array, known: tuple[Array, Passed]) -> Array:
    return op.apply({"params": weights}, known[0], mix, known[1])


@partial(jax.jit, static_argnums=0)
def _passing(op: MixedOp, mix: Array, passed: Passed) -> Array:
    y = sum(scaled(mix[op.ops.index(name)], output) for name, output in passed.outputs.items())
    if not passed.outputs and passed.rest is not None:
        y = jnp.zeros(
            (*passed.rest.shape[:-1], op.channels // op.partial_channels), passed.rest.dtype
        )
    return _beside(y, mix, passed.rest, op.partial_channels)


def stage_ops(candidates: Candidates) -> StageOps:
    """Returns what `run_stage` runs for a supernet of these candidates."""

    def older(channels, halve, weights, x):
        module = (FactorizedReduce if halve else ReLUConvBN)(
            channels, candidates.norms, parent=None
        )
        return _run_module(module, weights, x)

    def newer(channels, weights, x):
        return older(channels, False, weights, x)

    return StageOps(candidates.runner, older, newer)


@partial(jax.jit, static_argnums=0)
def _run_module(module: nn.Module, weights: PyTree, x: Array) -> Array:
    return module.apply({"params": weights}, x)


def stacked_edges(spec: CellSpec, stride: int) -> dict[int, list[tuple[int, int]]]:
    """Returns {stride: edges} of a cell, by source, then target: the order of the weights of a
    `MixedCell`.

    Example:
      >>> import dnas
      >>> {
      ...     s: len(edges)
      ...     for s, edges in stacked_edges(dnas.SPACES["darts"].cells["reduce"], 2).items()
      ... }
      {2: 8, 1: 6}
    """
    groups: dict[int, list[tuple[int, int]]] = {}
    for source, target in sorted(spec.edges):
        groups.setdefault(stride if source < spec.num_inputs else 1, []).append((source, target))
    return groups


def weights_by_edge(spec: CellSpec, stride: int, cell: PyTree) -> PyTree:
    """Returns the weights of a `MixedCell` under the names of a `ChosenCell`: one entry an edge in
    place of one a stride."""
    return {
        f"edge_{edge[0]}_{edge[1]}": _weights_of_edge(
            spec, edges, cell.get(f"edges_stride_{own_stride}", {}), edge
        )
        for own_stride, edges in stacked_edges(spec, stride).items()
        for edge in edges
    }


class ChosenCell(nn.Module):
    """A cell of a final network: the chosen ops on the chosen edges.

    Args:
      edges: (source, target, op); several of one pair are summed.
      num_inputs, concat: of the graph; channels: of each node; stride: of the edges that leave the
        inputs.
    """

    edges: tuple[tuple[int, int, str], ...]
    num_inputs: int
    concat: tuple[int, ...]
    channels: int
    stride: int
    norms: Norms

    @nn.compact
    def __call__(self, inputs: Sequence[Array], drop_path: Array | None = None) -> Array:
        """Returns [B, H/s, W/s, C * len(concat)] for inputs [B, H, W, C] each; drop_path is a rate,
        None for none."""
        ops: dict[tuple[int, int], list[str]] = {}
        for source, target, op in self.edges:
            ops.setdefault((source, target), []).append(op)

        def run_edge(source, target, x):
            stride = self.stride if source < self.num_inputs else 1
            name = f"edge_{source}_{target}"
            return ChosenOps(
                tuple(ops[source, target]), self.channels, stride, self.norms, name=name
            )(x, drop_path)

        def run_wave(wave, xs):
            states = dict(zip(wave.sources, xs, strict=True))
            return [
                sum(run_edge(source, target, x) for source, x in states.items())
                for target in wave.targets
            ]

        return run_cell(waves(tuple(ops), self.num_inputs), self.concat, run_wave, inputs)


class ChosenOps(nn.Module):
    """The sum of the chosen ops, one as a rule, with drop path on each that is not an identity."""

    ops: tuple[str, ...]
    channels: int
    stride: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float | None = None) -> Array:
        """Returns [B, H/s, W/s, C]; drop_path is a rate, None for none."""
        outputs = []
        for name in self.ops:
            op = OPS[name](channels=self.channels, stride=self.stride, norms=self.norms, name=name)
            y = op(x)
            if drop_path is not None and not OPS[name].is_identity(self.stride):
                y = drop_samples(self.make_rng("drop_path"), y, drop_path)
            outputs.append(y)
        return sum(outputs)


def drop_samples(key: Array, x: Array, rate: Array | float) -> Array:
    """Returns x [B, ...] with each sample zeroed with probability `rate`, the others divided by 1 -
    rate.

    Drop path as in FractalNet, https://arxiv.org/abs/1605.07648, and in the evaluation network of
    DARTS, appendix A.1.1.
    """
    kept = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)
