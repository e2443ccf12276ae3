"""FBNet's space: 22 layers, 9 blocks. Table 1 and section 3.1, https://arxiv.org/abs/1812.03443."""

from collections.abc import Sequence

from dnas.cells.mbconv import blocks_of
from dnas.checks import checked
from dnas.space import SearchSpace
from dnas.spaces.layerwise import Chain, Stage, layerwise_space

FBNET_OPS = (
    "k3_e1",
    "k3_e1_g2",
    "k3_e3",
    "k3_e6",
    "k5_e1",
    "k5_e1_g2",
    "k5_e3",
    "k5_e6",
    "skip_connect",
)

# Stages 1 to 7: channels, layers, stride of the first.
FBNET_STAGES = (
    Stage(16, 1, 1),
    Stage(24, 4, 2),
    Stage(32, 4, 2),
    Stage(64, 4, 2),
    Stage(112, 4, 1),
    Stage(184, 4, 2),
    Stage(352, 1, 1),
)


@checked
def fbnet_space(
    *,
    name: str = "fbnet",
    width: float = 1.0,
    stages: Sequence[tuple[int, int, int]] = FBNET_STAGES,
    head: int = 1984,
    expand_ones: bool = True,
) -> SearchSpace:
    """Returns FBNet's space. A block kK_eE has a K x K kernel and expansion E, with _g2 its 1x1
    convolutions two groups.

    `skip_connect` is the identity, and a 1x1 convolution where size or width change. The stem
    "cifar" has stride 1 in its convolution and in the stage of 24 channels. See `layerwise_space`
    for what its networks take.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      width: multiplier of all widths.
      stages: (channels, layers, stride of the first) each.
      head: channels in front of the classifier; FBNet-A has 1504.
      expand_ones: whether blocks of expansion 1 begin with a 1x1 convolution. They do in the paper
        and in the networks released with it; the present mobile-vision leaves it out, and counts
        less than the paper says.

    Raises:
      ValueError: for stages without layers, numbers below 1, or a multiplier that is not positive.

    Example:
      >>> import dnas
      >>> dnas.count_network(
      ...     fbnet_space(),
      ...     dnas.PUBLISHED["FBNET_C"],
      ...     num_classes=1000,
      ...     image_size=224,
      ...     stem="imagenet",
      ... )
      Counts(params=5572200, macs=384960160)
    """
    blocks = blocks_of(FBNET_OPS, expand_ones=expand_ones)
    chain = Chain(stem=16, stages=tuple(Stage(*own) for own in stages), head=head)
    return layerwise_space(name, chain, blocks, width=width)
