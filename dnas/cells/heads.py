"""What makes logits of the last image of a network, and of an inner one during training."""

import flax.linen as nn

from dnas.base import Array
from dnas.cells.init import bias_init, conv_init
from dnas.cells.norms import Norms
from dnas.cells.ops import conv
from dnas.kernels.sums import wide


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
