"""What final networks are made of: the parts that a hardware table has rows for."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from dnas.base import Array, Key, PyTree
from dnas.choices import Choices, Condition
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

    None stands where nothing runs: an op that computes nothing, or that the edge does not have.
    """

    kind: str
    parts: tuple[tuple[Part | None, ...], ...]  # [E][O]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """What runs in one place, where that depends on several rows: a part for each combination of
    their options.

    A convolution whose kernel and width are decided has two axes, one that reads a decided width
    three. What one row of a cell decides is a `LayerParts`.

    Args:
      at: (kind, row) of each axis of `parts`.
      parts: array of `Part`, or None where nothing runs, one axis a row, an option a place.
      alive: conditions on further rows under which it runs at all, such as a depth that reaches it.

    Raises:
      ValueError: unless there is an axis a row, and a row is named once.

    """

    at: tuple[tuple[str, int], ...]
    parts: np.ndarray
    alive: tuple[Condition, ...] = ()

    @property
    def rows(self) -> tuple[tuple[str, int], ...]:
        """(kind, row) of all that it depends on, those of `at` first."""
        return (*self.at, *((under.kind, under.row) for under in self.alive))

    def __post_init__(self):
        if not self.at or len(set(self.rows)) < len(self.rows):
            raise ValueError(
                f"a term names rows, at least one and each once; got {self.rows}. Where a part does"
                " not run under an option of a row of `at`, put None there"
            )
        if np.ndim(self.parts) != len(self.at) or np.asarray(self.parts).dtype != object:
            raise ValueError(
                f"the parts of a term on {len(self.at)} rows are an array of objects with as many"
                f" axes, got {np.asarray(self.parts).dtype} of shape {np.shape(self.parts)}"
            )


def term_of(
    choices: Mapping[str, Choices],
    at: tuple[tuple[str, int], ...],
    part: Callable[..., Part | None],
    alive: tuple[Condition, ...] = (),
) -> Term:
    """Returns the term whose parts a function makes of the columns of its rows.

    Args:
      choices: of the space.
      part: (column of the first row, column of the second, ...) -> `Part`, or None.

    Example:
      >>> choices = {"width": Choices(("w8", "w16"), ("0", "1"), values=(8, 16))}
      >>> widths = choices["width"].values
      >>> conv = term_of(
      ...     choices,
      ...     (("width", 0), ("width", 1)),
      ...     lambda one, other: Part("conv", widths[one], widths[other], 4, 4),
      ... )
      >>> print(conv.parts[0, 1])
      conv 8->16 4x4 stride 1
    """
    parts = np.empty([len(choices[kind].options) for kind, _ in at], object)
    for columns in np.ndindex(parts.shape):
        parts[columns] = part(*columns)
    return Term(at, parts, alive)


class NetworkParts(NamedTuple):
    """All that the final networks of a space are made of, at one size. Sums and concatenations of
    nodes are not listed."""

    cells: Mapping[str, CellSpec]
    fixed: tuple[Part, ...]  # what every network runs, as often as it does
    layers: tuple[LayerParts, ...]
    # of a candidate; runtimes compute the ReLU once for several
    begins_with_relu: Callable[[Part], bool] = lambda part: False
    dimensions: Mapping[str, Choices] = MappingProxyType({})  # the kinds that are no cells
    terms: tuple[Term, ...] = ()  # what depends on several rows, beside the layers of cells

    @property
    def choices(self) -> dict[str, Choices]:
        """What is decided, as `SearchSpace.choices` has it."""
        return {**{kind: spec.choices for kind, spec in self.cells.items()}, **self.dimensions}

    def distinct(self) -> tuple[Part, ...]:
        """Returns each part once, in the order of the network: what a table of the space must have
        rows for."""
        return tuple(dict.fromkeys((*self.fixed, *self._choices())))

    def candidates(self) -> set[Part]:
        """Returns the parts that are a choice somewhere."""
        return set(self._choices())

    def _choices(self) -> Iterator[Part]:
        for layer in self.layers:
            for row in layer.parts:
                yield from (part for part in row if part is not None)
        for term in self.terms:
            yield from (part for part in term.parts.ravel() if part is not None)


class PartNetwork(NamedTuple):
    """One part as a network of its own, in the form that final networks have once they are
    trained."""

    # (key, x [B, H, W, C]) -> variables, with the weights under "params"
    init: Callable[[Key, Array], PyTree]
    apply: Callable[[PyTree, Array], Array]  # (variables, x) -> y
