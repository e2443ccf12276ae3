"""Which layers networks have, and their sizes."""

from collections.abc import Sequence

from dnas.checks import at_least, checked, one_of
from dnas.space import LayerSpec

STEMS = ("cifar", "imagenet")

# A network beyond this takes longer to trace than anybody waits; whether its weights have a place
# is asked of the device.
MOST_CELLS, MOST_CHANNELS = 1000, 2**20
MOST_SIDE = 2**15  # of an image, whose pixels are counted in 32 bits
MOST_NODES = 100  # of a cell: an edge for each two of them


def sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Returns height and width of what may be given as one number.

    Raises:
      ValueError: for another number of sides, or one whose pixels 32 bits cannot count.
    """
    own = (image_size, image_size) if isinstance(image_size, int) else tuple(map(int, image_size))
    if len(own) != 2 or max(own) > MOST_SIDE:
        raise ValueError(
            f"image_size is one number or (height, width), up to {MOST_SIDE:,}; got"
            f" {image_size!s:.100}"
        )
    return own


def strided(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Returns what a stride leaves of a height and width: it rounds up."""
    return -(-size[0] // stride), -(-size[1] // stride)


@checked
def stack_layers(
    *, channels: int, num_cells: int, image_size: int | Sequence[int], stem: str = "cifar"
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
    height, width = sides(image_size)
    one_of(STEMS, stem=stem)
    if num_cells < 1 or channels < 1:
        raise ValueError(
            f"a network needs at least one cell and one channel, got {num_cells} cells and"
            f" {channels} channels"
        )
    at_least(1, most=MOST_CELLS, num_cells=num_cells)
    at_least(1, most=MOST_CHANNELS, channels=channels)
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


STAGES = 3


@checked
def residual_layers(
    *, channels: int, num_cells: int, image_size: int | Sequence[int], stem: str = "cifar"
) -> tuple[LayerSpec, ...]:
    """Returns the cells of three stages; channels double and the size halves in the residual blocks
    between the stages.

    Args:
      channels: of the first stage.
      num_cells: in all stages together, a multiple of three.
      image_size: pixels, one number or (height, width), multiples of four: of an odd size a
        residual block's convolution and its pooling would leave different ones.
      stem: "cifar" only: a 3x3 convolution that keeps the size.

    Raises:
      ValueError: for sizes that do not fit.

    Example:
      >>> [layer.channels for layer in residual_layers(channels=16, num_cells=6, image_size=32)]
      [16, 16, 32, 32, 64, 64]
    """
    height, width = sides(image_size)
    one_of(("cifar",), stem=stem)
    if num_cells < 1 or num_cells % STAGES or channels < 1:
        raise ValueError(
            f"a network has at least one channel and {STAGES} stages of equally many cells, so that"
            f" the number of cells is a multiple of {STAGES}, 15 in the published networks; got"
            f" {num_cells} cells and {channels} channels"
        )
    at_least(1, most=MOST_CELLS, num_cells=num_cells)
    at_least(1, most=MOST_CHANNELS, channels=channels)
    divisor = 2 ** (STAGES - 1)
    if min(height, width) < divisor or height % divisor or width % divisor:
        raise ValueError(
            f"images of {height}x{width} cannot be halved {STAGES - 1} times; resize or pad them to"
            f" multiples of {divisor} pixels"
        )
    sizes = [
        LayerSpec("cell", channels << stage, 1, (height >> stage, width >> stage))
        for stage in range(STAGES)
    ]
    return tuple(layer for layer in sizes for _ in range(num_cells // STAGES))
