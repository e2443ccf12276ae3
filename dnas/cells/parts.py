"""What final networks are made of: a description of every part that a hardware table has a row for,
and its module."""

import itertools
from collections.abc import Callable, Mapping

import flax.linen as nn

from dnas.base import Array, Key, PyTree
from dnas.cells.heads import Classifier
from dnas.cells.init import applied, init_variables
from dnas.cells.layers import residual_layers, sides, stack_layers
from dnas.cells.norms import Norms, final_norms
from dnas.cells.ops import OPS, FactorizedReduce, ReLUConvBN, conv
from dnas.cells.residual import ResidualBlock
from dnas.checks import at_least, checked
from dnas.graph import CellSpec
from dnas.kernels.sums import wide
from dnas.parts import LayerParts, NetworkParts, Part, PartNetwork

PartModule = Callable[[Part, Norms], nn.Module]


class ConvNorm(nn.Module):
    """A 3x3 convolution and a norm, with a ReLU before them or without."""

    channels: int
    stride: int
    norms: Norms
    relu: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.norms.stem()(
            conv(self.channels, 3, self.stride, 1)(nn.relu(x) if self.relu else x)
        )


class MeanClassifier(nn.Module):
    """The mean over positions and a linear layer."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Classifier(self.num_classes)(x.mean((1, 2), dtype=wide(x.dtype)))


class NormClassifier(nn.Module):
    """A norm, a ReLU, the mean over positions and a linear layer."""

    num_classes: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return MeanClassifier(self.num_classes)(nn.relu(self.norms.stem()(x)))


# What is not a candidate op, by the name that a part has.
FIXED: dict[str, PartModule] = {
    "conv_3x3": lambda part, norms: ConvNorm(part.channels_out, part.stride, norms),
    "relu_conv_3x3": lambda part, norms: ConvNorm(part.channels_out, part.stride, norms, relu=True),
    "relu_conv_1x1": lambda part, norms: ReLUConvBN(part.channels_out, norms),
    "factorized_reduce": lambda part, norms: FactorizedReduce(part.channels_out, norms),
    "residual_block": lambda part, norms: ResidualBlock(part.channels_out, norms),
    "classifier": lambda part, norms: MeanClassifier(part.channels_out),
    "norm_classifier": lambda part, norms: NormClassifier(part.channels_out, norms),
}


def candidate(part: Part, norms: Norms) -> nn.Module:
    """Returns the module of a candidate op."""
    return OPS[part.op](channels=part.channels_out, stride=part.stride, norms=norms)


def part_network(part: Part, modules: Mapping[str, PartModule] = FIXED) -> PartNetwork:
    """Returns one part as a network, as it is after training: affine norms with running averages,
    pooling without norm.

    Args:
      modules: (part, norms) -> module, by the name of what is no candidate op in `OPS`.

    Raises:
      ValueError: for an op without a module.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> network, x = (
      ...     part_network(Part("factorized_reduce", 6, 8, 4, 4, 2)),
      ...     jnp.ones((1, 4, 4, 6)),
      ... )
      >>> network.apply(network.init(jax.random.key(0), x), x).shape
      (1, 2, 2, 8)
    """
    if part.op in modules:
        make = modules[part.op]
    elif part.op in OPS:
        make = candidate
    else:
        raise ValueError(
            f"no module is known for the part {part}; the ops that have one are:"
            f" {', '.join([*OPS, *modules])}"
        )

    def init(key: Key, x: Array) -> PyTree:
        return init_variables(make(part, final_norms(True)), key, x)

    def apply(variables: PyTree, x: Array) -> Array:
        return applied(make(part, final_norms(False)), variables, x)

    return PartNetwork(init, apply)


def edge_choices(
    spec: CellSpec, channels: int, size: tuple[int, int], stride: int
) -> tuple[tuple[Part | None, ...], ...]:
    """Returns the parts [E][O] of a cell whose ops keep the number of channels; None for what
    computes nothing and what an edge lacks.

    Args:
      size: height and width of the inputs of the cell; stride: of the edges that leave them.
    """
    inner = tuple(-(-side // stride) for side in size)

    def part(op, source):
        if source < spec.num_inputs:
            return Part(op, channels, channels, size[0], size[1], stride)
        return Part(op, channels, channels, inner[0], inner[1])

    return tuple(
        tuple(part(op, source) if may else None for op, may in zip(spec.ops, allowed, strict=True))
        for (source, _), allowed in zip(spec.edges, spec.choices.computes, strict=True)
    )


def begins_with_relu(part: Part) -> bool:
    """Returns whether a candidate op reads its input through a ReLU, and in no other way.

    Example:
      >>> (
      ...     begins_with_relu(Part("sep_conv_3x3", 4, 4, 8, 8)),
      ...     begins_with_relu(Part("max_pool_3x3", 4, 4, 8, 8)),
      ... )
      (True, False)
    """
    return OPS[part.op].begins_with_relu(part.stride)


@checked
def stack_parts(
    cells: Mapping[str, CellSpec],
    *,
    channels: int,
    num_cells: int,
    num_classes: int = 10,
    image_size: int | tuple[int, int] = 32,
    image_channels: int = 3,
    stem: str = "cifar",
) -> NetworkParts:
    """Returns the parts of a `CellStack`: stem, the two convolutions before each cell, its edges,
    and the classifier.

    The auxiliary head is not there: it is used in training only.

    Args:
      cells: of the space; the rest as `stack_layers` has it.

    Raises:
      ValueError: for sizes that `stack_layers` refuses.
    """
    at_least(1, num_classes=num_classes, image_channels=image_channels)
    layers = stack_layers(channels=channels, num_cells=num_cells, image_size=image_size, stem=stem)
    height, width = sides(image_size)
    if stem == "cifar":
        fixed = [Part("conv_3x3", image_channels, 3 * channels, height, width)]
        before = last = 3 * channels
    else:
        fixed = [
            Part("conv_3x3", image_channels, channels // 2, height, width, 2),
            Part("relu_conv_3x3", channels // 2, channels, height // 2, width // 2, 2),
            Part("relu_conv_3x3", channels, channels, height // 4, width // 4, 2),
        ]
        before = last = channels
    halve, choices = stem == "imagenet", []
    for layer in layers:
        (height, width), width_of_cell = layer.size, layer.channels
        if halve:
            fixed.append(Part("factorized_reduce", before, width_of_cell, 2 * height, 2 * width, 2))
        else:
            fixed.append(Part("relu_conv_1x1", before, width_of_cell, height, width))
        fixed.append(Part("relu_conv_1x1", last, width_of_cell, height, width))
        choices.append(
            LayerParts(
                layer.kind, edge_choices(cells[layer.kind], width_of_cell, layer.size, layer.stride)
            )
        )
        before, last, halve = last, width_of_cell * len(cells[layer.kind].concat), layer.stride == 2
    height, width = height // layers[-1].stride, width // layers[-1].stride
    fixed.append(Part("classifier", last, num_classes, height, width))
    return NetworkParts(cells, tuple(fixed), tuple(choices), begins_with_relu)


@checked
def residual_parts(
    spec: CellSpec,
    *,
    channels: int,
    num_cells: int,
    num_classes: int = 10,
    image_size: int | tuple[int, int] = 32,
    image_channels: int = 3,
    stem: str = "cifar",
) -> NetworkParts:
    """Returns the parts of a `ResidualStack`: stem, residual blocks, the edges of its cells, and
    norm with classifier.

    Args:
      spec: of the cell; the rest as `residual_layers` has it.

    Raises:
      ValueError: for sizes that `residual_layers` refuses.
    """
    at_least(1, num_classes=num_classes, image_channels=image_channels)
    layers = residual_layers(
        channels=channels, num_cells=num_cells, image_size=image_size, stem=stem
    )
    fixed = [Part("conv_3x3", image_channels, channels, *layers[0].size)]
    for before, layer in itertools.pairwise(layers):
        if layer.channels != before.channels:
            fixed.append(Part("residual_block", before.channels, layer.channels, *before.size, 2))
    fixed.append(Part("norm_classifier", layers[-1].channels, num_classes, *layers[-1].size))
    choices = tuple(
        LayerParts("cell", edge_choices(spec, layer.channels, layer.size, 1)) for layer in layers
    )
    return NetworkParts({"cell": spec}, tuple(fixed), choices, begins_with_relu)
