"""The macro network around the cells: stems, the stack of cells, reductions, classifier, auxiliary
head."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, PyTree
from dnas.cells.init import TracedOnce, Unbound, apply_once, bias_init, conv_init
from dnas.cells.norms import Norms
from dnas.cells.ops import FactorizedReduce, ReLUConvBN, conv
from dnas.kernels.loops.stages import stage_lengths
from dnas.kernels.sums import wide
from dnas.space import LayerSpec

STEMS = ("cifar", "imagenet")


def stack_layers(
    *, channels: int, num_cells: int, image_size: int | tuple[int, int], stem: str = "cifar"
) -> tuple[LayerSpec, ...]:
    """Returns the layers of a stack of normal and reduction cells, DARTS section 3.1 and appendix
    A.

    Cells number num_cells // 3 and 2 * num_cells // 3 are reductions, where the channels double.

    Args:
      channels: of each node in the first cells.
      num_cells: length of the stack, at least 1.
      image_size: pixels, one number or (height, width).
      stem: "cifar" keeps the size; "imagenet" reduces it eightfold before the first cell.

    Raises:
      ValueError: for a stem that does not exist, sizes that cannot be halved as often as the
        network does, and channels that cannot be split where the network needs two halves.

    Example:
      >>> [layer.stride for layer in stack_layers(channels=16, num_cells=6, image_size=32)]
      [1, 1, 2, 1, 2, 1]
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if stem not in STEMS:
        raise ValueError(f"stem {stem!r} does not exist; choose from: {', '.join(STEMS)}")
    if num_cells < 1 or channels < 1:
        raise ValueError(
            f"a network needs at least one cell and one channel, got {num_cells} cells and"
            f" {channels} channels"
        )
    if stem == "imagenet" and channels % 2:
        raise ValueError(
            f"the imagenet stem starts with half of {channels} channels; choose an even number"
        )
    reductions = {num_cells // 3, 2 * num_cells // 3}
    divisor = 2 ** len(reductions) * (8 if stem == "imagenet" else 1)
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise ValueError(
            f"images of {height}x{width} cannot be halved {divisor.bit_length() - 1} times, as"
            f" {num_cells} cells after the {stem} stem do; resize or pad them to multiples of"
            f" {divisor} pixels"
        )
    if stem == "imagenet":
        height, width = height // 8, width // 8
    layers = []
    for number in range(num_cells):
        if number in reductions:
            channels *= 2
            layers.append(LayerSpec("reduce", channels, 2, (height, width)))
            height, width = height // 2, width // 2
        else:
            layers.append(LayerSpec("normal", channels, 1, (height, width)))
    return tuple(layers)


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
      run_stage: (layers, halves, their weights, before, last) -> the outputs of its last two cells.
        Unless it is None it replaces what the cells compute, but not their weights.
    """

    channels: int
    num_cells: int
    num_classes: int
    stem: str
    norms: Norms
    make_cell: Callable[[LayerSpec], nn.Module]
    cell_args: Callable[[LayerSpec], tuple[Array, ...]] = lambda layer: ()
    auxiliary: bool = False
    remat: bool = False
    scan: bool = False
    run_stage: Callable | None = None

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
        steps = [
            self._step(number, layer, halve)
            for number, (layer, halve) in enumerate(zip(layers, halves, strict=True))
        ]
        if self.run_stage is not None and not self.is_initializing():
            last = self._run_stages(layers, halves, steps, before, last)
            return (
                Classifier(self.num_classes, name="classifier")(
                    last.mean((1, 2), dtype=wide(last.dtype))
                ),
                None,
            )
        auxiliary_logits, number = None, 0
        while number < len(layers):
            length = (
                1 if self.is_initializing() or not self.scan else _alike(layers, halves, number)
            )
            # Even then the weights of the first ones may differ, those that read the stem.
            own = [step.own() for step in steps[number : number + length]]
            if (
                length > 2
                and len({_shapes(variables) for variables in own[:2]}) == 1
                and before.shape == last.shape
            ):
                before, last = self._scan(
                    steps[number : number + length],
                    own,
                    before,
                    last,
                    self.cell_args(layers[number]),
                )
                number += length
                continue
            before, last = (
                last,
                self._run(steps[number], before, last, self.cell_args(layers[number])),
            )
            if self.auxiliary and number == 2 * self.num_cells // 3:
                head = AuxiliaryHead(self.num_classes, self.stem, self.norms, name="auxiliary")
                auxiliary_logits = head(last)
            number += 1
        return (
            Classifier(self.num_classes, name="classifier")(
                last.mean((1, 2), dtype=wide(last.dtype))
            ),
            auxiliary_logits,
        )

    def _run_stages(self, layers, halves, steps, before, last) -> Array:
        start = 0
        for length in stage_lengths(layers):
            place = slice(start, start + length)
            weights = [step.own()["params"] for step in steps[place]]
            before, last = self.run_stage(layers[place], halves[place], weights, before, last)
            start += length
        return last

    def _step(self, number: int, layer: LayerSpec, halve: bool) -> TracedOnce:
        module = Layer(
            layer.channels, halve, self.norms, Unbound(self.make_cell(layer)), parent=None
        )
        return TracedOnce(Unbound(module), name=f"cell_{number}")

    def _run(self, step: TracedOnce, before: Array, last: Array, args: tuple[Array, ...]) -> Array:
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


checkpointed = jax.checkpoint(apply_once, static_argnums=0)


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


def stack_trees(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose arrays have a first axis more."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


class Classifier(nn.Module):
    """A linear layer with bias."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(
            self.num_classes, kernel_init=conv_init, bias_init=bias_init(x.shape[-1]), name="dense"
        )(x)


class AuxiliaryHead(nn.Module):
    """A second classifier that reads an inner cell during training: DARTS, appendix A.1.1.

    ReLU, 5x5 average pooling (stride 3, imagenet 2), 1x1 convolution to 128, norm, ReLU, 2x2
    convolution to 768, norm (not for imagenet: the published networks lack it), ReLU, and a linear
    layer on the mean over positions. The original, made for 8x8 and 7x7 inputs, has one position
    there.

    Raises:
      ValueError: if the input is too small to be pooled to 2x2.
    """

    num_classes: int
    stem: str
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Array:
        stride = 2 if self.stem == "imagenet" else 3
        height, width = x.shape[1:3]
        if min(height, width) < 5 + stride:
            raise ValueError(
                f"the auxiliary head needs a feature map of at least {5 + stride}x{5 + stride}"
                f" after the second reduction, got {height}x{width}; use larger images, or no"
                " auxiliary head"
            )
        x = nn.avg_pool(nn.relu(x), (5, 5), (stride, stride))
        x = nn.relu(self.norms.stem()(conv(128, 1)(x)))
        x = conv(768, 2)(x)
        if self.stem == "cifar":
            x = self.norms.stem()(x)
        return Classifier(self.num_classes, name="classifier")(
            nn.relu(x).mean((1, 2), dtype=wide(x.dtype))
        )
