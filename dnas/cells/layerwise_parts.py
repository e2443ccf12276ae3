"""What the networks of layer-wise spaces are made of, as hardware tables have rows for it.

A part is named by its block, stem, head or classifier, and has a key for what differs from FBNet's:
another activation than ReLU, and `expand_ones=0` where a block of expansion 1 has no first
convolution.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn

from dnas.base import Array
from dnas.cells.layers import sides, strided
from dnas.cells.mbconv import ACTIVATIONS, Block, activation_keys
from dnas.cells.norms import Norms
from dnas.cells.ops import conv, pointwise
from dnas.cells.parts import FIXED, PartModule
from dnas.cells.trunk import Chain, Place, Sizes
from dnas.parts import Part
from dnas.space import LayerSpec


def block_part(op: str, block: Block, place: Place, size: tuple[int, int]) -> Part:
    """Returns the part of one block at a place, whose input has this height and width."""
    identity = block.skips and place.stride == 1 and place.inputs == place.channels
    keys = () if identity else block.keys
    return Part(op, place.inputs, place.channels, *size, place.stride, keys)


def around_parts(
    sizes: Sizes,
    chain: Chain,
    image_channels: int,
    num_classes: int,
    image_size: int | tuple[int, int],
    layers: Sequence[LayerSpec],
) -> tuple[Part, ...]:
    """Returns the parts around the layers: stem, the fixed block if there is one, head and
    classifier.

    Args:
      sizes, chain: of the network; layers: in front of which the stem is, and behind which the
        head.
    """
    height, width = sides(image_size)
    keys, first, last = activation_keys(chain.activation), layers[0], layers[-1]
    fixed = [Part("stem_3x3", image_channels, sizes.stem, height, width, sizes.stem_stride, keys)]
    if chain.first is not None:
        op, block, _ = chain.first
        fixed.append(Part(op, sizes.stem, sizes.first, *first.size, 1, block.keys))
    size = strided(last.size, last.stride)
    fixed.append(Part("head_1x1", last.channels, sizes.head, *size, 1, keys))
    return (*fixed, Part("classifier", sizes.head, num_classes, *size))


def part_modules(chain: Chain, blocks: Mapping[str, Block]) -> dict[str, PartModule]:
    """Returns the module of every part of the networks of a chain, for `part_network`."""

    activation = ACTIVATIONS[chain.activation]

    def around(part: Part, norms: Norms) -> nn.Module:
        return ConvActivation(part.channels_out, int(part.op[-1]), part.stride, norms, activation)

    def candidate(part: Part, norms: Norms) -> nn.Module:
        fields = dict(channels=part.channels_out, stride=part.stride, norms=norms)
        if chain.first is not None:
            op, block, _ = chain.first
            if (part.op, part.keys) == (op, block.keys):
                return block(**fields)
        return blocks[part.op](**fields)

    first = [] if chain.first is None else [chain.first[0]]
    return {
        "classifier": FIXED["classifier"],
        "stem_3x3": around,
        "head_1x1": around,
        **dict.fromkeys([*blocks, *first], candidate),
    }


class ConvActivation(nn.Module):
    """A convolution, a norm and an activation."""

    channels: int
    kernel: int
    stride: int
    norms: Norms
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        run = (
            pointwise(self.channels)
            if self.kernel == 1
            else conv(self.channels, self.kernel, self.stride, self.kernel // 2)
        )
        return self.activation(self.norms.stem()(run(x)))
