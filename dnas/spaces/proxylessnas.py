"""ProxylessNAS's space: 21 layers, 6 blocks and a skip. Section 4.2,
https://arxiv.org/abs/1812.00332."""

from collections.abc import Sequence

from dnas.cells.mbconv import blocks_of, mbconv
from dnas.checks import checked
from dnas.space import SearchSpace
from dnas.spaces.layerwise import Chain, Stage, layerwise_space

PROXYLESS_OPS = ("k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6", "skip_connect")

# Channels, layers, stride of the first.
PROXYLESS_STAGES = (
    Stage(24, 4, 2),
    Stage(40, 4, 2),
    Stage(80, 4, 2),
    Stage(96, 4, 1),
    Stage(192, 4, 2),
    Stage(320, 1, 1),
)


@checked
def proxylessnas_space(
    *,
    name: str = "proxylessnas",
    width: float = 1.0,
    stages: Sequence[tuple[int, int, int]] = PROXYLESS_STAGES,
    stem: int = 32,
    first: int = 16,
    head: int = 1280,
) -> SearchSpace:
    """Returns ProxylessNAS's space. A block kK_eE has a K x K kernel and expansion E; the
    activation is ReLU6.

    The paper's zero op leaves the residual connection alone, and so is `skip_connect`; the first
    layer of a stage, which has no residual, cannot choose it. Between stem and layers a fixed 3x3
    block without expansion. The stem "cifar" has stride 1 in its convolution and in the first
    stage. See `layerwise_space` for what its networks take.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      width: multiplier of all widths.
      stages: (channels, layers, stride of the first) each.
      stem, first, head: channels of the stem, of the fixed block, and in front of the classifier.
        The released networks have other widths than the space, see `dnas.PUBLISHED`.

    Raises:
      ValueError: for stages without layers, numbers below 1, or a multiplier that is not positive.

    Example:
      >>> space = proxylessnas_space()
      >>> (
      ...     len(space.cells["layers"].edges),
      ...     len(space.cells["layers"].edge_ops[0]),
      ...     len(space.cells["layers"].edge_ops[1]),
      ... )
      (21, 6, 7)
    """
    blocks = blocks_of(PROXYLESS_OPS, activation="relu6")
    fixed = mbconv(3, 1, activation="relu6", expand_ones=False)
    chain = Chain(
        stem,
        tuple(Stage(*own) for own in stages),
        head,
        ("k3_e1", fixed, first),
        activation="relu6",
    )
    return layerwise_space(name, chain, blocks, inside=("skip_connect",), width=width)
