"""What is decided: rows, each of which gets one of several options. Numpy only.

A row is one decision, whatever it is about: the op of an edge, the block of a layer, a kernel size,
a width, a depth. Every mix {kind: [E, O]} has the `Choices` of its kinds beside it, and who reads a
mix (relaxations, selections, rules, costs) asks them and nothing else.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dnas.checks import check_fields
from dnas.files import shown

# Options that compute nothing, unless a space names its own.
NOTHING = ("none",)


class Condition(NamedTuple):
    """That a row of some kind has one of these options, such as a depth that reaches a block."""

    kind: str
    row: int
    columns: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Choices:
    """The decisions of one kind: row e of a mix belongs to `rows[e]`, column o to `options[o]`.

    Args:
      options: [O] names. rows: [E] names.
      row_options: of each row the options that it may have; None where all rows have all.
      nothing: the options that compute nothing.
      groups: rows that compete for a place, such as the edges that enter one node. A row in no
        group always has its place.
      keep: how many rows of each group a genotype keeps, each with an option that computes
        something; None where every row keeps an option, one of `nothing` too.
      values: [O] ascending sizes, where options are such; None where they have no order.
      under: of each row the conditions on rows of other kinds, all of which must hold for the row
        to matter: a block beyond the depth may have any kernel. () where every row always matters.

    Raises:
      ValueError: for what does not fit together.

    Example:
      >>> kernels = Choices(("k3", "k5"), ("block_0", "block_1"), values=(3, 5))
      >>> kernels.shape, kernels.allowed.all()
      ((2, 2), np.True_)
    """

    options: tuple[str, ...]
    rows: tuple[str, ...]
    row_options: tuple[tuple[str, ...], ...] | None = None
    nothing: tuple[str, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    keep: int | None = None
    values: tuple[float, ...] | None = None
    under: tuple[tuple[Condition, ...], ...] = ()

    def __post_init__(self):
        check_fields(self)
        for name, names in (("options", self.options), ("rows", self.rows)):
            if not names or len(set(names)) < len(names):
                raise ValueError(
                    f"{name} are names, at least one and each once; got {shown(names)}"
                )
        self._check_options()
        self._check_groups()
        if self.under and len(self.under) != len(self.rows):
            raise ValueError(
                f"under holds the conditions of each of {len(self.rows)} rows, got"
                f" {len(self.under)}"
            )

    def _check_options(self) -> None:
        if unknown := set(self.nothing) - set(self.options):
            raise ValueError(
                f"nothing names {shown(sorted(unknown))}, which are not among the options:"
                f" {shown(self.options)}"
            )
        ascending = self.values is None or list(self.values) == sorted(set(self.values))
        if self.values is not None and (len(self.values) != len(self.options) or not ascending):
            raise ValueError(
                f"values are ascending numbers, one for each of {shown(self.options)}; got"
                f" {shown(self.values)}"
            )
        if self.row_options is None:
            return
        if len(self.row_options) != len(self.rows) or not all(self.row_options):
            raise ValueError(
                f"row_options names the options of each of {len(self.rows)} rows, got"
                f" {shown(self.row_options)}"
            )
        if unknown := {name for own in self.row_options for name in own} - set(self.options):
            raise ValueError(
                f"row_options names {shown(sorted(unknown))}, which are not among the options:"
                f" {shown(self.options)}"
            )

    def _check_groups(self) -> None:
        competing = [row for group in self.groups for row in group]
        if len(set(competing)) < len(competing) or not set(competing) <= set(range(len(self.rows))):
            raise ValueError(
                f"groups hold row numbers from 0 to {len(self.rows) - 1}, each at most once; got"
                f" {shown(self.groups)}"
            )
        if self.keep is not None and (self.keep < 1 or not competing):
            raise ValueError(
                f"a group keeps at least one of its rows, and there are groups; got keep ="
                f" {self.keep} and groups = {shown(self.groups)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(E, O)."""
        return len(self.rows), len(self.options)

    @functools.cached_property
    def allowed(self) -> np.ndarray:
        """bool [E, O]: which row may have which option."""
        if self.row_options is None:
            return _fixed(np.ones(self.shape, bool))
        return _fixed(np.array([np.isin(self.options, own) for own in self.row_options]))

    @functools.cached_property
    def computes(self) -> np.ndarray:
        """bool [E, O]: which row may have which option that computes something."""
        return _fixed(self.allowed & ~self.is_nothing)

    @functools.cached_property
    def is_nothing(self) -> np.ndarray:
        """bool [O]: which options compute nothing."""
        return _fixed(np.isin(self.options, self.nothing))

    @functools.cached_property
    def always(self) -> np.ndarray:
        """bool [E]: which rows are there in every genotype, with an option that computes."""
        return _fixed(~self.may_be_dropped & (self.computes == self.allowed).all(axis=-1))

    @functools.cached_property
    def may_be_dropped(self) -> np.ndarray:
        """bool [E]: which rows a genotype may do without."""
        dropped = np.zeros(len(self.rows), bool)
        if self.keep is not None:
            dropped[[row for group in self.groups for row in group]] = True
        return _fixed(dropped)

    @functools.cached_property
    def together(self) -> tuple[tuple[int, ...], ...]:
        """The groups, and each row that is in none as a group of its own."""
        competing = {row for group in self.groups for row in group}
        alone = tuple((row,) for row in range(len(self.rows)) if row not in competing)
        return (*self.groups, *alone)

    @functools.cached_property
    def compete(self) -> np.ndarray:
        """bool [E, E]: which rows compete with each other for a place; each with itself."""
        found = np.zeros((len(self.rows), len(self.rows)), bool)
        for group in self.together:
            found[np.ix_(group, group)] = True
        return _fixed(found)

    def options_of(self, row: int) -> tuple[str, ...]:
        """Returns the options that a row may have."""
        return self.options if self.row_options is None else self.row_options[row]

    def group_of(self, row: int) -> tuple[int, ...]:
        """Returns the rows that compete for a place with this one, itself among them."""
        return next(group for group in self.together if row in group)

    def places(self, group: tuple[int, ...]) -> int:
        """Returns how many rows of a group have a place: `keep` of those that compete, where a
        genotype keeps so many, else all."""
        return self.keep if self.keep is not None and group in self.groups else len(group)


def relevant_rows(
    choices: Mapping[str, Choices], columns: Mapping[str, Mapping[int, int]]
) -> dict[str, np.ndarray]:
    """Returns {kind: bool [E]}, which rows matter where these are the options.

    A row matters if the rows that it stands under matter and have the options that it needs.

    Args:
      columns: {kind: {row: column}}.
    """
    matters = {kind: np.ones(len(own.rows), bool) for kind, own in choices.items()}
    while True:
        before = {kind: rows.copy() for kind, rows in matters.items()}
        for kind, own in choices.items():
            for row, conditions in enumerate(own.under):
                matters[kind][row] = all(
                    before[under.kind][under.row]
                    and columns[under.kind].get(under.row) in under.columns
                    for under in conditions
                )
        if all((matters[kind] == before[kind]).all() for kind in choices):
            return matters


def _fixed(array: np.ndarray) -> np.ndarray:
    """The array, of which everyone gets the same one, protected from changes."""
    array.flags.writeable = False
    return array
