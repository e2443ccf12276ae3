"""The macro network around the cells: stems, the stack of cells, reductions, classifier, auxiliary head."""

from collections.abc import Callable, Sequence

import flax.linen as nn

from dnas.base import Array
from dnas.cells.init import bias_init, conv_init
from dnas.cells.norms import Norms
from dnas.cells.ops import FactorizedReduce, ReLUConvBN, conv
from dnas.space import LayerSpec

STEMS = ("cifar", "imagenet")


def stack_layers(
    *, channels: int, num_cells: int, image_size: int | tuple[int, int], stem: str = "cifar"
) -> tuple[LayerSpec, ...]:
    """Returns the layers of a stack of normal and reduction cells, DARTS section 3.1 and appendix A.

    Cells number num_cells // 3 and 2 * num_cells // 3 are reductions, where the channels double.

    Args:
      channels: of each node in the first cells.
      num_cells: length of the stack, at least 1.
      image_size: pixels, one number or (height, width).
      stem: "cifar" keeps the size; "imagenet" reduces it eightfold before the first cell.

    Raises:
      ValueError: for a stem that does not exist, sizes that cannot be halved as often as the network does, and
        channels that cannot be split where the network needs two halves.

    Example:
      >>> [layer.stride for layer in stack_layers(channels=16, num_cells=6, image_size=32)]
      [1, 1, 2, 1, 2, 1]
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if stem not in STEMS:
        raise ValueError(f"stem {stem!r} does not exist; choose from: {', '.join(STEMS)}")
    if num_cells < 1 or channels < 1:
        raise ValueError(f"a network needs at least one cell and one channel, got {num_cells} cells and {channels} channels")
    if stem == "imagenet" and channels % 2:
        raise ValueError(f"the imagenet stem starts with half of {channels} channels; choose an even number")
    reductions = {num_cells // 3, 2 * num_cells // 3}
    divisor = 2 ** len(reductions) * (8 if stem == "imagenet" else 1)
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise ValueError(
            f"images of {height}x{width} cannot be halved {divisor.bit_length() - 1} times, as {num_cells} cells after the "
            f"{stem} stem do; resize or pad them to multiples of {divisor} pixels"
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


class CellStack(nn.Module):
    """Stem, cells and classifier; what a cell computes is given from outside.

    Each cell reads the outputs of the two cells before it, brought to its size and channels by a 1x1 convolution, or by
    `FactorizedReduce` where the older one is twice as large.

    Args:
      channels: of each node in the first cells; num_cells: length of the stack; num_classes: of the classifier.
      stem: "cifar" or "imagenet".
      norms: the norms of all places.
      run_cell: (number, layer, inputs) -> output, called inside this module.
      auxiliary: whether to return the auxiliary logits as well.
    """

    channels: int
    num_cells: int
    num_classes: int
    stem: str
    norms: Norms
    run_cell: Callable[[int, LayerSpec, Sequence[Array]], Array]
    auxiliary: bool = False

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array | None]:
        """Returns (logits [B, num_classes], auxiliary logits or None) for images [B, H, W, C]."""
        layers = stack_layers(channels=self.channels, num_cells=self.num_cells, image_size=images.shape[1:3], stem=self.stem)
        before, last = self._stem(images)
        halve = self.stem == "imagenet"  # there the second stem has halved what the first cell reads as the older input
        auxiliary_logits = None
        for number, layer in enumerate(layers):
            older = FactorizedReduce if halve else ReLUConvBN
            inputs = (
                older(layer.channels, self.norms, name=f"preprocess_{number}_0")(before),
                ReLUConvBN(layer.channels, self.norms, name=f"preprocess_{number}_1")(last),
            )
            before, last = last, self.run_cell(number, layer, inputs)
            halve = layer.stride == 2
            if self.auxiliary and number == 2 * self.num_cells // 3:
                head = AuxiliaryHead(self.num_classes, self.stem, self.norms, name="auxiliary")
                auxiliary_logits = head(last)
        return Classifier(self.num_classes, name="classifier")(last.mean((1, 2))), auxiliary_logits

    def _stem(self, images: Array) -> tuple[Array, Array]:
        if self.stem == "cifar":
            x = self.norms.stem()(conv(3 * self.channels, 3, 1, 1)(images))
            return x, x
        x = nn.relu(self.norms.stem()(conv(self.channels // 2, 3, 2, 1)(images)))
        first = self.norms.stem()(conv(self.channels, 3, 2, 1)(x))
        second = self.norms.stem()(conv(self.channels, 3, 2, 1)(nn.relu(first)))
        return first, second


class Classifier(nn.Module):
    """A linear layer with bias."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(self.num_classes, kernel_init=conv_init, bias_init=bias_init(x.shape[-1]), name="dense")(x)


class AuxiliaryHead(nn.Module):
    """A second classifier that reads an inner cell during training: DARTS, appendix A.1.1.

    ReLU, 5x5 average pooling (stride 3, imagenet 2), 1x1 convolution to 128, norm, ReLU, 2x2 convolution to 768, norm (not
    for imagenet: the published networks lack it), ReLU, and a linear layer on the mean over positions. The original, made
    for 8x8 and 7x7 inputs, has one position there.

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
                f"the auxiliary head needs a feature map of at least {5 + stride}x{5 + stride} after the second reduction, "
                f"got {height}x{width}; use larger images, or no auxiliary head"
            )
        x = nn.avg_pool(nn.relu(x), (5, 5), (stride, stride))
        x = nn.relu(self.norms.stem()(conv(128, 1)(x)))
        x = conv(768, 2)(x)
        if self.stem == "cifar":
            x = self.norms.stem()(x)
        return Classifier(self.num_classes, name="classifier")(nn.relu(x).mean((1, 2)))
