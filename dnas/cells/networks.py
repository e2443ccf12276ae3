"""From flax modules to models; and DARTS's network: stem, a stack of normal and reduction cells,
classifier, with the cells of a stage of a supernet in one loop."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import AnyArray, Array, Key, Mix, PyTree
from dnas.cells.edge_ops import EdgeOps, stacked_edges
from dnas.cells.heads import AuxiliaryHead, Classifier
from dnas.cells.init import (
    TracedOnce,
    Unbound,
    applied,
    apply_once,
    check_dtype,
    checkpointed,
    in_dtype,
    init_variables,
    run_module,
    stack_trees,
)
from dnas.cells.layers import stack_layers
from dnas.cells.norms import Norms
from dnas.cells.ops import FactorizedReduce, ReLUConvBN, conv
from dnas.graph import CellSpec
from dnas.kernels.loops import EdgeArrays, EdgeLoop, Links, edge_loop
from dnas.kernels.sums import wide
from dnas.model import Model, Outputs
from dnas.space import LayerSpec


def make_supernet(
    module: Callable[[Mix], nn.Module],
    cells: Mapping[str, CellSpec],
    *,
    args: Callable[[Mix], tuple[AnyArray, ...]] = lambda mix: (),
    dtype=None,
) -> Model:
    """Returns the supernet that applies `module(mix)` to images; it has weights only, and draws
    nothing.

    Args:
      args: mix -> what else the module is called with.
      dtype: what it computes in, None for that of its weights.

    Raises:
      ValueError: for a dtype that does not exist.
    """
    check_dtype(dtype)

    def init(key: Key, images: Array) -> PyTree:
        mix = {
            kind: jnp.zeros((len(spec.edges), len(spec.ops)), images.dtype)
            for kind, spec in cells.items()
        }
        return {"params": init_variables(module(mix), key, images, *args(mix))["params"]}

    def apply(
        variables: PyTree,
        mix: Mix,
        images: Array,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        del key, train, drop_path
        weights, images = in_dtype(dtype, (variables["params"], images))
        found: Any = module(mix).apply({"params": weights}, images, *args(mix))
        return _outputs(found), variables

    return Model(init, apply)


def make_network(
    module: Callable[[bool, Array | None, bool], nn.Module],
    *,
    args: Callable[[Array | None], tuple[Array, ...]] = lambda drop_path: (),
    auxiliary: bool = False,
    dtype=None,
) -> Model:
    """Returns the network that applies `module(train, drop_path, auxiliary)` to images.

    Args:
      module: drop_path is a rate, or None for none; the module returns logits, or (logits,
        auxiliary logits or None).
      args: drop_path -> what else the module is called with.
      auxiliary: whether training returns the logits of the auxiliary head too.
      dtype: as for `make_supernet`.

    Raises:
      ValueError: for a dtype that does not exist.
    """
    check_dtype(dtype)

    def init(key: Key, images: Array) -> PyTree:
        return init_variables(module(True, None, auxiliary), key, images, *args(None))

    def apply(
        variables: PyTree,
        mix: Mix,
        images: Array,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        del mix
        weights, images = in_dtype(dtype, (variables["params"], images))
        collections = {**variables, "params": weights}
        if not train:
            found = applied(module(False, None, False), collections, images, *args(None))
            return _outputs(found), variables
        rate, rngs = None, {}
        if key is not None and (not isinstance(drop_path, (int, float)) or drop_path > 0):
            rate, rngs = jnp.asarray(drop_path), {"drop_path": key}
        found, averages = module(True, rate, auxiliary).apply(
            collections, images, *args(rate), rngs=rngs, mutable=["batch_stats"]
        )
        return _outputs(found), {**variables, **averages}

    return Model(init, apply)


def _outputs(found: Array | tuple[Array, Array | None]) -> Outputs:
    return Outputs(*found) if isinstance(found, tuple) else Outputs(found)


class Layer(nn.Module):
    """A cell and what brings its two inputs to its size and channels: a 1x1 convolution each.

    Args:
      channels: of the cell.
      halve: whether the older input is twice as large as the cell expects, and gets a
        `FactorizedReduce` instead.
      cell: called with the two inputs and what else the layer is called with; traced once for all
        layers that have it.
    """

    channels: int
    halve: bool
    norms: Norms
    cell: Unbound

    @nn.compact
    def __call__(self, before: Array, last: Array, *args: Array) -> Array:
        older = FactorizedReduce if self.halve else ReLUConvBN
        inputs = (
            older(self.channels, self.norms, name="preprocess_0")(before),
            ReLUConvBN(self.channels, self.norms, name="preprocess_1")(last),
        )
        return TracedOnce(self.cell, name="cell")(inputs, *args)


class CellStack(nn.Module):
    """Stem, cells and classifier; what a cell computes is given from outside.

    Each cell reads the outputs of the two cells before it.

    Args:
      channels: of each node in the first cells; num_cells: length of the stack; num_classes: of the
        classifier.
      stem: "cifar" or "imagenet".
      norms: the norms of all places.
      make_cell: layer -> module, called with (inputs, *cell_args(layer)); equal layers get equal
        modules.
      cell_args: layer -> arrays.
      auxiliary: whether to return the auxiliary logits as well.
      remat: compute each cell again for the gradient instead of keeping what it computed: less
        memory, more time.
      scan: run neighbours that are alike, shapes of weights included, in one loop that is compiled
        once: 14 of the 20 cells of the published evaluation network. It compiles in two thirds of
        the time, and copies what it keeps for the gradient.
      begin_stage: (layers, halves, their weights, before, last) -> `StageLoop`, which runs the
        cells of a stage in one loop. Unless it is None it replaces what the cells compute, but not
        their weights.
    """

    channels: int
    num_cells: int
    num_classes: int
    stem: str
    norms: Norms
    make_cell: Callable[[LayerSpec], nn.Module]
    cell_args: Callable[[LayerSpec], tuple[AnyArray, ...]] = lambda layer: ()
    auxiliary: bool = False
    remat: bool = False
    scan: bool = False
    begin_stage: Callable[..., "StageLoop"] | None = None

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array | None]:
        """Returns (logits [B, num_classes], auxiliary logits or None) for images [B, H, W, C];
        logits float32 or wider."""
        layers = stack_layers(
            channels=self.channels,
            num_cells=self.num_cells,
            image_size=images.shape[1:3],
            stem=self.stem,
        )
        before, last = self._stem(images)
        # With the imagenet stem, its second half has halved what the first cell reads as the older
        # input.
        halves = [self.stem == "imagenet"] + [layer.stride == 2 for layer in layers[:-1]]
        steps = [self._step(*own) for own in zip(range(len(layers)), layers, halves, strict=True)]
        auxiliary_logits = None
        if self.begin_stage is None or self.is_initializing():
            last, auxiliary_logits = self._cells(layers, halves, steps, before, last)
        else:
            for place in stage_places(layers):
                weights = [step.own()["params"] for step in steps[place]]
                stage = self.begin_stage(layers[place], halves[place], weights, before, last)
                _, outputs = lax.scan(stage.body, stage.carry, stage.cells)
                before, last = stage.end(outputs, last)
        pooled = last.mean((1, 2), dtype=wide(last.dtype))
        return Classifier(self.num_classes, name="classifier")(pooled), auxiliary_logits

    def _cells(self, layers, halves, steps, before, last) -> tuple[Array, Array | None]:
        """The output of the last cell and the auxiliary logits, one cell after the other."""
        auxiliary_logits, number = None, 0
        while number < len(layers):
            args, length = self.cell_args(layers[number]), 1
            if self.scan and not self.is_initializing():
                length = _alike(layers, halves, number)
            # Even then the weights of the first ones may differ, those that read the stem.
            own = [step.own() for step in steps[number : number + length]]
            alike = length > 2 and _shapes(own[0]) == _shapes(own[1])
            if alike and before.shape == last.shape:
                alike_steps = steps[number : number + length]
                before, last = self._scan(alike_steps, own, before, last, args)
                number += length
                continue
            before, last = last, self._run(steps[number], before, last, args)
            if self.auxiliary and number == 2 * self.num_cells // 3:
                head = AuxiliaryHead(self.num_classes, self.stem, self.norms, name="auxiliary")
                auxiliary_logits = head(last)
            number += 1
        return last, auxiliary_logits

    def _step(self, number: int, layer: LayerSpec, halve: bool) -> TracedOnce:
        module = Layer(
            layer.channels, halve, self.norms, Unbound(self.make_cell(layer)), parent=None
        )
        return TracedOnce(Unbound(module), name=f"cell_{number}")

    def _run(
        self, step: TracedOnce, before: Array, last: Array, args: tuple[AnyArray, ...]
    ) -> Array:
        if self.is_initializing() or not self.remat:
            return step(before, last, *args)
        y, changed = checkpointed(step.unbound.module, step.own(), step.rngs(), before, last, *args)
        step.keep(changed)
        return y

    def _scan(self, steps, own, before, last, args) -> tuple[Array, Array]:
        apply = checkpointed if self.remat else apply_once

        def body(carry, of_step):
            before, last = carry
            y, changed = apply(steps[0].unbound.module, *of_step, before, last, *args)
            return (last, y), changed

        rngs = [step.rngs() for step in steps]
        carry, changed = lax.scan(body, (before, last), (stack_trees(own), stack_trees(rngs)))
        for place, step in enumerate(steps):
            step.keep(jax.tree.map(lambda array, place=place: array[place], changed))
        return carry

    def _stem(self, images: Array) -> tuple[Array, Array]:
        if self.stem == "cifar":
            x = self.norms.stem()(conv(3 * self.channels, 3, 1, 1)(images))
            return x, x
        x = nn.relu(self.norms.stem()(conv(self.channels // 2, 3, 2, 1)(images)))
        first = self.norms.stem()(conv(self.channels, 3, 2, 1)(x))
        second = self.norms.stem()(conv(self.channels, 3, 2, 1)(nn.relu(first)))
        return first, second


def _alike(layers: Sequence[LayerSpec], halves: Sequence[bool], first: int) -> int:
    """How many layers from `first` on are equal to it; 1 where it strides."""
    length = 1
    while (
        layers[first].stride == 1
        and first + length < len(layers)
        and (layers[first + length], halves[first + length]) == (layers[first], halves[first])
    ):
        length += 1
    return length


def _shapes(tree: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, *(leaf.shape for leaf in leaves)


def stage_places(layers: Sequence[LayerSpec]) -> list[slice]:
    """Returns which layers each stage has; a reduction begins one.

    Example:
      >>> [
      ...     place.stop
      ...     for place in stage_places(stack_layers(channels=16, num_cells=8, image_size=32))
      ... ]
      [2, 5, 8]
    """
    starts = [number for number, layer in enumerate(layers) if number == 0 or layer.stride > 1] + [
        len(layers)
    ]
    return [slice(start, end) for start, end in itertools.pairwise(starts)]


class StageLoop(NamedTuple):
    """The cells of a stage as `lax.scan` runs them.

    Between two reductions all cells have the same channels and size; only the 1x1 convolutions in
    front of them differ, since they read what earlier stages left. With those taken out, XLA
    compiles the edges of a stage once: five times for the whole supernet, those of the reductions
    that stride included, however many cells it has.
    """

    body: Callable[[PyTree, PyTree], tuple[PyTree, Array]]  # (carry, cell) -> (carry, output)
    carry: PyTree
    cells: PyTree  # what belongs to each cell, arrays [cells, ...]

    def end(self, outputs: Array, last: Array) -> tuple[Array, Array]:
        """Returns the outputs of the last two cells; `last` is that before the stage."""
        return (outputs[-2] if len(outputs) > 1 else last), outputs[-1]


class MixedStages(NamedTuple):
    """What the stages of a supernet are made of."""

    specs: Mapping[str, CellSpec]  # the cells by kind, all of one graph with two inputs
    mix: Mix
    edge_ops: EdgeOps
    remat: bool
    waves: bool

    def begin(
        self,
        layers: Sequence[LayerSpec],
        halves: Sequence[bool],
        weights: Sequence[PyTree],
        before: Array,
        last: Array,
    ) -> StageLoop:
        """Returns the loop over the cells of a stage, once the edges of a reduction that stride
        have run.

        Args:
          layers: of the stage; only the first may stride.
          halves: for each cell whether its older input is twice as large as the newer one.
          weights: for each cell, "preprocess_0", "preprocess_1" and in "cell" the stacked edges,
            see `MixedCell`.
          before, last: the outputs of the two cells before the stage.
        """
        spec, channels, stride = self.specs[layers[0].kind], layers[0].channels, layers[0].stride
        edges, rows = sorted(spec.edges), [self.mix[layer.kind] for layer in layers]
        order = np.asarray([spec.edges.index(edge) for edge in edges])
        first = (
            self._older(channels, halves[0], weights[0]["preprocess_0"], before),
            self._newer(channels, weights[0]["preprocess_1"], last),
        )
        batch, height, width, _ = first[0].shape
        shape = batch, height // stride, width // stride, channels
        nodes, skip = jnp.zeros((spec.num_nodes, *shape), last.dtype), None
        plain = [self._stacked(*of, 1) for of in zip(layers, weights, strict=True)]
        if stride > 1:
            strided = [edge for edge in edges if edge[0] < spec.num_inputs]
            links = [(source, target - spec.num_inputs) for source, target in strided]
            number, own = len(strided), self._stacked(layers[0], weights[0], stride)
            arrays = EdgeArrays(own, jnp.asarray(rows[0][order[:number]]), jnp.stack(first), nodes)
            nodes = self._loop(links, channels, stride)(arrays)
            if number == len(edges):
                if len(layers) == 1:
                    y = _joined(spec, nodes, spec.num_inputs)
                    return StageLoop(lambda carry, cell: (carry, y), (), jnp.arange(1))
                plain[0] = jax.tree.map(lambda array: array[:0], plain[1])
            # In the loop the first cell only runs its other edges, on inputs that are not there any
            # more.
            first = (jnp.zeros(shape, last.dtype),) * 2
            skip = np.zeros((len(layers), len(edges)), bool)
            skip[0, :number] = True
            plain[0] = jax.tree.map(partial(_behind, number), plain[0])

        # The convolutions between cells belong to the loop: after cell n come the newer one of
        # n + 1 and the older one of n + 2. The last cells have none to come; theirs are zeros, and
        # what they compute is not used.
        newer = [own["preprocess_1"] for own in weights[1:]]
        older = [own["preprocess_0"] for own in weights[2:]]
        third = first[0]
        if len(layers) > 1:
            third = self._older(channels, halves[1], weights[1]["preprocess_0"], last)
        cells = _CellArrays(
            stack_trees(plain),
            jnp.stack([row[order] for row in rows]),
            skip,
            None if stride == 1 else jnp.arange(len(layers)) == 0,
            stack_trees([*newer, _zeros(newer[0])]) if newer else None,
            stack_trees([*older, _zeros(older[0]), _zeros(older[0])]) if older else None,
        )
        loop = self._loop(edges, channels, 1)

        def body(carry, cell: _CellArrays):
            inputs, third = carry
            if cell.begins is None:
                own = jnp.zeros_like(nodes)
            else:
                own = jnp.where(cell.begins, nodes, 0)
            states = jnp.concatenate([jnp.stack(inputs), own])
            states = loop(EdgeArrays(cell.weights, cell.rows, None, states, cell.skip))
            y = _joined(spec, states, 0)
            following = self._newer(channels, cell.newer, y) if newer else inputs[1]
            after = self._older(channels, False, cell.older, y) if older else third
            return ((third, following), after), y

        return StageLoop(body, (first, third), cells)

    def _loop(self, links: Links, channels: int, stride: int) -> EdgeLoop:
        run = self.edge_ops.runner(channels, stride)
        return edge_loop(run, links, remat=self.remat, waves=self.waves)

    def _stacked(self, layer: LayerSpec, weights: PyTree, stride: int) -> PyTree:
        """The weights of the edges of a layer that have this stride."""
        spec = self.specs[layer.kind]
        edges = stacked_edges(spec, layer.stride).get(stride, [])
        own = weights.get("cell", {}).get(f"edges_stride_{stride}", {})
        return self.edge_ops.stack(spec, layer.channels, stride, edges, own)

    def _older(self, channels: int, halve: bool, weights: PyTree, x: Array) -> Array:
        """The 1x1 convolution of the older input of a cell."""
        make = FactorizedReduce if halve else ReLUConvBN
        return run_module(make(channels, self.edge_ops.norms, parent=None), weights, x)

    def _newer(self, channels: int, weights: PyTree, x: Array) -> Array:
        return self._older(channels, False, weights, x)


class _CellArrays(NamedTuple):
    """What belongs to each cell of a stage, [cells, ...]."""

    weights: PyTree  # of the edges of stride 1
    rows: Array  # [cells, E, O], the mix
    skip: np.ndarray | None  # bool [cells, E], edges that have run before the loop
    begins: Array | None  # bool [cells], whether the nodes begin with what those have left
    newer: PyTree  # weights of the convolutions between cells
    older: PyTree


def _joined(spec: CellSpec, states: Array, first: int) -> Array:
    """The output of a cell, of states that begin with this node."""
    return jnp.concatenate([states[node - first] for node in spec.concat], axis=-1)


def _behind(number: int, array: Array) -> Array:
    """The rows of the array behind so many of zeros."""
    return jnp.pad(array, [(number, 0)] + [(0, 0)] * (array.ndim - 1))


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, tree)
