"""What the networks of layer-wise spaces are made of, as hardware tables have rows for it.

A part is named by its block, stem, head or classifier, and has a key for what differs from FBNet's:
another activation than ReLU, and `expand_ones=0` where a block of expansion 1 has no first
convolution.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn

from dnas.base import Array
from dnas.cells.mbconv import MBConv
from dnas.cells.norms import Norms
from dnas.cells.ops import conv, pointwise
from dnas.cells.parts import FIXED, PartModule
from dnas.space import LayerSpec, Part

Keys = tuple[tuple[str, int | str], ...]


def block_part(op: str, block: Callable[..., nn.Module], place, size: tuple[int, int]) -> Part:
    """Returns the part of one block at a `Place`, whose input has this height and width."""
    keeps = place.stride == 1 and place.inputs == place.channels
    return Part(op, place.inputs, place.channels, *size, place.stride, _keys(block, keeps))


def around_parts(
    sizes, chain, image_channels: int, num_classes: int, image_size, layers: Sequence[LayerSpec]
) -> tuple[Part, ...]:
    """Returns the parts around the layers: stem, the fixed block if there is one, head and
    classifier.

    Args:
      sizes, chain: `Sizes` and `Chain` of the network; layers: in front of which the stem is, and
        behind which the head.
    """
    image_size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    keys, first, last = _activation_keys(chain.activation), layers[0], layers[-1]
    fixed = [Part("stem_3x3", image_channels, sizes.stem, *image_size, sizes.stem_stride, keys)]
    if chain.first is not None:
        block = chain.first[0]
        own = _keys(block, keeps=sizes.stem == sizes.first)
        fixed.append(Part(_op_of(block), sizes.stem, sizes.first, *first.size, 1, own))
    size = tuple(-(-side // last.stride) for side in last.size)
    fixed.append(Part("head_1x1", last.channels, sizes.head, *size, 1, keys))
    return (*fixed, Part("classifier", sizes.head, num_classes, *size))


def part_modules(chain, blocks: Mapping[str, Callable[..., nn.Module]]) -> dict[str, PartModule]:
    """Returns the module of every part of the networks of a chain, for `part_network`."""

    def around(part: Part, norms: Norms) -> nn.Module:
        return ConvActivation(
            part.channels_out, int(part.op[-1]), part.stride, norms, chain.activation
        )

    def candidate(part: Part, norms: Norms) -> nn.Module:
        block = blocks.get(part.op)
        if chain.first is not None and (part.op, part.keys) == (
            _op_of(chain.first[0]),
            _keys(chain.first[0]),
        ):
            block = chain.first[0]
        return block(channels=part.channels_out, stride=part.stride, norms=norms)

    own = [*blocks, *([_op_of(chain.first[0])] if chain.first is not None else [])]
    return {
        "classifier": FIXED["classifier"],
        "stem_3x3": around,
        "head_1x1": around,
        **dict.fromkeys(own, candidate),
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


def _keys(block: Callable[..., nn.Module], keeps: bool = False) -> Keys:
    options, inverted = getattr(block, "keywords", {}), getattr(block, "func", block) is MBConv
    if keeps and not inverted:
        return ()  # an identity
    shortened = inverted and options["expansion"] == 1 and not options.get("expand_ones", True)
    return _activation_keys(options.get("activation", nn.relu)) + (
        (("expand_ones", 0),) if shortened else ()
    )


def _activation_keys(activation: Callable[[Array], Array]) -> Keys:
    return () if activation is nn.relu else (("activation", activation.__name__),)


def _op_of(block) -> str:
    return f"k{block.keywords['kernel']}_e{block.keywords['expansion']}"
