"""What final networks are made of: the parts that a hardware table has rows for."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from dnas.base import Array, Key, PyTree
from dnas.graph import CellSpec


class Part(NamedTuple):
    """One part of a final network, as a hardware table has a row for it: an op at one shape.

    Example:
      >>> print(Part("mbconv", 16, 24, 112, 112, 2, (("expand", 3), ("kernel", 5))))
      mbconv 16->24 112x112 stride 2 expand=3 kernel=5
    """

    op: str
    channels_in: int
    channels_out: int
    height: int  # of the input
    width: int
    stride: int = 1
    keys: tuple[tuple[str, int | str], ...] = ()  # what else tells two parts apart, sorted by name

    def __str__(self):
        size = (
            f"{self.op} {self.channels_in}->{self.channels_out} {self.height}x{self.width} stride"
            f" {self.stride}"
        )
        return " ".join([size, *(f"{name}={value}" for name, value in self.keys)])


class LayerParts(NamedTuple):
    """What may run in one layer: for each edge of its cell and each op a `Part`.

    None stands where nothing runs: `none`, and an op that the edge does not have.
    """

    kind: str
    choices: tuple[tuple[Part | None, ...], ...]  # [E][O]


class NetworkParts(NamedTuple):
    """All that the final networks of a space are made of, at one size. Sums and concatenations of
    nodes are not listed."""

    cells: Mapping[str, CellSpec]
    fixed: tuple[Part, ...]  # what every network runs, as often as it does
    layers: tuple[LayerParts, ...]
    # of a candidate; runtimes compute the ReLU once for several
    begins_with_relu: Callable[[Part], bool] = lambda part: False

    def distinct(self) -> tuple[Part, ...]:
        """Returns each part once, in the order of the network: what a table of the space must have
        rows for."""
        return tuple(dict.fromkeys((*self.fixed, *self._choices())))

    def candidates(self) -> set[Part]:
        """Returns the parts that are a choice somewhere."""
        return set(self._choices())

    def _choices(self) -> Iterator[Part]:
        return (
            part
            for layer in self.layers
            for row in layer.choices
            for part in row
            if part is not None
        )


class PartNetwork(NamedTuple):
    """One part as a network of its own, in the form that final networks have once they are
    trained."""

    # (key, x [B, H, W, C]) -> variables, with the weights under "params"
    init: Callable[[Key, Array], PyTree]
    apply: Callable[[PyTree, Array], Array]  # (variables, x) -> y
