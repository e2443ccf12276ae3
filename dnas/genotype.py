"""A genotype: what a search ends with, an option for every decision. Standard library only."""

import collections
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dnas import drawing, notation
from dnas.checks import checked, whole
from dnas.files import read_json, shown
from dnas.notation import MAX_NAME, MAX_NODES

# Characters; longer texts are refused before they are parsed.
_MAX_TEXT = 20_000
_MAX_JSON = 2_000_000


class Edge(NamedTuple):
    """One op of a cell: it reads node `source` and is summed into node `target`."""

    source: int
    target: int
    op: str


@dataclasses.dataclass(frozen=True, eq=False)
class Genotype:
    """One discrete architecture: frozen, hashable, independent of the order of its kinds.

    Kinds that are cells, graphs of edges, are in `cells`; all other kinds are in `picks`, an option
    for each of their rows, such as the kernel size of each block.

    Nodes of a cell are numbered from 0, its inputs first. A cell's output is the concatenation, in
    a recurrent cell the mean, of the nodes in `concat[kind]`; a kind that is not in `concat` has
    every node that an edge enters. An entry that only repeats this default is dropped, so that
    equal cells compare equal.

    Args:
      space: name of the search space, such as "darts".
      cells: {kind: edges}; an edge is an `Edge` or a tuple (source, target, op). The order of edges
        is kept.
      concat: {kind: node numbers}.
      picks: {kind: the name of the option of each row}; None for a row that was not kept.

    Raises:
      ValueError: for edges that do not form a directed acyclic graph of named ops, or repeat each
        other, and for options without a name. Whether an op is known is checked by
        `dnas.space.check_genotype`, since a genotype can be read without its space.

    Example:
      >>> cell = Genotype("darts", {"normal": [(0, 2, "sep_conv_3x3"), (1, 2, "skip_connect")]})
      >>> cell == Genotype.from_json(cell.to_json())
      True
      >>> cell.cells["normal"][1].op
      'skip_connect'
    """

    space: str
    cells: Mapping[str, tuple[Edge, ...]] = dataclasses.field(default_factory=dict)
    concat: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    picks: Mapping[str, tuple[str | None, ...]] = dataclasses.field(default_factory=dict)

    if TYPE_CHECKING:  # what may be given is more than what it is kept as

        def __init__(
            self,
            space: str,
            cells: Mapping[str, Sequence[tuple[int, int, str]]] = {},
            concat: Mapping[str, Sequence[int]] = {},
            picks: Mapping[str, Sequence[str | None]] = {},
        ) -> None: ...

    def __post_init__(self):
        if not isinstance(self.space, str) or not self.space:
            raise ValueError(
                f"space must be the name of a search space such as 'darts', not {shown(self.space)}"
            )
        if not isinstance(self.picks, Mapping):
            raise ValueError(
                f"picks must map kinds to the options of rows, not {shown(self.picks)}"
            )
        if not isinstance(self.cells, Mapping) or not (self.cells or self.picks):
            raise ValueError(
                f"cells must map at least one kind to its edges, not {shown(self.cells)}"
            )
        if both := sorted(set(self.cells) & set(self.picks), key=repr):
            raise ValueError(f"a kind has edges or picks, but {both} have both")
        if not isinstance(self.concat, Mapping):
            raise ValueError(f"concat must map kinds to node numbers, not {shown(self.concat)}")
        unknown = sorted(set(self.concat) - set(self.cells), key=repr)
        if unknown:
            raise ValueError(
                f"concat names {shown(unknown)}, but the genotype has cells of kind"
                f" {shown(list(self.cells))}"
            )
        cells = {kind: _checked_edges(kind, edges) for kind, edges in self.cells.items()}
        concat = {
            kind: _checked_concat(kind, nodes, cells[kind]) for kind, nodes in self.concat.items()
        }
        concat = {kind: nodes for kind, nodes in concat.items() if nodes != _entered(cells[kind])}
        picks = {kind: _checked_picks(kind, options) for kind, options in self.picks.items()}
        object.__setattr__(self, "cells", _FrozenDict(cells))
        object.__setattr__(self, "concat", _FrozenDict(concat))
        object.__setattr__(self, "picks", _FrozenDict(picks))

    def __eq__(self, other):
        if not isinstance(other, Genotype):
            return NotImplemented
        return self._parts() == other._parts()

    def __hash__(self):
        return hash(self._parts())

    def _parts(self) -> tuple:
        return self.space, self.cells, self.concat, self.picks

    def concat_of(self, kind: str) -> tuple[int, ...]:
        """Returns the nodes whose concatenation is the output of a cell of this kind."""
        return self.concat.get(kind, _entered(self.cells[kind]))

    def count(self, op: str) -> dict[str, int]:
        """Returns how many rows of each kind have `op`; count("skip_connect") warns of a
        collapse."""
        ops: dict[str, Sequence[str | None]] = {
            kind: [edge.op for edge in edges] for kind, edges in self.cells.items()
        }
        ops.update(self.picks)
        return {kind: own.count(op) for kind, own in ops.items()}

    @classmethod
    def from_text(cls, text: str, *, space: str | None = None) -> "Genotype":
        """Returns the genotype written in any of these notations; the text is parsed and never
        evaluated.

        * that of the original DARTS code: "Genotype(normal=[('sep_conv_3x3', 1), ...],
          normal_concat=[2, 3, 4, 5], reduce=[...], reduce_concat=range(2, 6))". Every node has the
          same number of entries, in the order of the nodes, or a list of its own,
          "normal=[[('sep_conv_3x3', 1), ...], ...]"; as in that code, the nodes follow two inputs.
          Its space is "darts";
        * that of its recurrent cells: "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ...],
          concat=range(1, 9))", one entry a node after node 0. Its space is "recurrent";
        * that of NAS-Bench-201: "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|";
        * that of layer-wise spaces, their name and a block for each layer: "fbnet: k3_e1, k3_e6,
          skip_connect, ...";
        * that of spaces without cells, an option for each row of each kind, "-" for a row that is
          not kept: "digits: kernel = k3 k5; depth = d2";
        * the JSON of `to_json`.

        The first three may stand in other text, such as "MINE = Genotype(...)" or a line of a log.

        Args:
          space: of a text in one of the first three, which do not name theirs, where it is another
            one: that of RobustDARTS's cells is "s1" to "s4".

        Raises:
          ValueError: says what is wrong, where in the text, and what is allowed.
        """
        if not isinstance(text, str):
            raise ValueError(
                f"a genotype is read from a str, not from {type(text).__name__}: {shown(text)}"
            )
        stripped = text.strip("\ufeff").strip()
        if stripped.startswith("{"):
            return cls.from_json(stripped)
        if len(text) > _MAX_TEXT:
            raise ValueError(
                f"a genotype of {len(text)} characters was given; at most {_MAX_TEXT} are read: of"
                " a log, give the line with the genotype"
            )
        stripped = notation.excerpt(stripped)
        if stripped.startswith("|"):
            return cls(space or "nasbench201", *notation.parse_nasbench201(stripped))
        if stripped.startswith("Genotype"):
            if notation.is_recurrent(stripped):
                return cls(space or "recurrent", *notation.parse_recurrent(stripped))
            return cls(space or "darts", *notation.parse_original(stripped))
        if notation.is_picks(stripped):
            space, picks = notation.parse_picks(stripped)
            return cls(space, picks=picks)
        if notation.is_layers(stripped):
            return cls(*notation.parse_layers(stripped))
        raise ValueError(
            f"this is not a genotype: {stripped[:60]!r}. Write the original notation"
            " 'Genotype(normal=[(op, node), ...], ...)', a NAS-Bench-201 string"
            " '|op~0|+|op~0|op~1|+...', 'space: block, block, ...' with a block a layer, or JSON"
            " as Genotype.to_json makes it"
        )

    def to_text(self) -> str:
        """Returns the original notation of the space: `from_text` reads it back to an equal
        genotype.

        A genotype of one kind "layers" is written as layer-wise ones are, one of one kind
        "recurrent" as recurrent cells are. Outside of layer-wise spaces, the name of another space
        than "darts", "nasbench201" and "recurrent" is lost: the notations have no place for it.

        Raises:
          ValueError: if the notation cannot hold this genotype (in the original notation every node
            of a cell has the same number of edges); `to_json` holds every genotype.
        """
        if self.picks:
            return notation.write_picks(self.space, self.picks, self.cells)
        if set(self.cells) == {"layers"}:
            return notation.write_layers(
                self.space, self.cells, {"layers": self.concat_of("layers")}
            )
        if self._is_recurrent():
            write = notation.write_recurrent
        else:
            write = (
                notation.write_nasbench201
                if self.space == "nasbench201"
                else notation.write_original
            )
        return write(self.cells, {kind: self.concat_of(kind) for kind in self.cells})

    @classmethod
    @checked
    def from_json(cls, text: str) -> "Genotype":
        """Returns the genotype that `to_json` wrote.

        Raises:
          ValueError: if the text is not JSON, does not describe a genotype, or has more than
            2,000,000 characters.
        """
        if len(text) > _MAX_JSON:
            raise ValueError(
                f"a genotype of {len(text)} characters was given; of JSON at most {_MAX_JSON} are"
                " read"
            )
        tree = read_json(text, "the genotype")
        if not isinstance(tree, dict) or not isinstance(tree.get("cells", tree.get("picks")), dict):
            raise ValueError(
                'a JSON genotype is an object with "space" and "cells": {kind: [[source, target,'
                " op], ...]}"
            )
        extra = sorted(set(tree) - {"space", "cells", "concat", "picks"})
        if extra:
            raise ValueError(
                f"a JSON genotype has no {shown(extra)}; it has space, cells, concat and picks"
            )
        parts = (tree.get(name, {}) for name in ("cells", "concat", "picks"))
        return cls(tree.get("space", ""), *parts)

    def to_json(self) -> str:
        """Returns one line of JSON; `from_json` and `from_text` read it back to an equal
        genotype."""
        cells = {kind: [list(edge) for edge in edges] for kind, edges in self.cells.items()}
        concat = {kind: list(nodes) for kind, nodes in self.concat.items()}
        tree = {"space": self.space, "cells": cells, "concat": concat}
        if self.picks:
            tree["picks"] = {kind: list(options) for kind, options in self.picks.items()}
        return json.dumps(tree)

    def _repr_svg_(self) -> str:
        """Returns the genotype drawn as SVG: a notebook shows it this way."""
        output = "mean" if self._is_recurrent() else "concatenation"
        concat = {kind: self.concat_of(kind) for kind in self.cells}
        return drawing.draw_genotype(self.cells, concat, self.picks, output)

    def _is_recurrent(self) -> bool:
        return set(self.cells) == {"recurrent"} and self.space not in ("darts", "nasbench201")


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("a Genotype is frozen; make a new one, for instance with dataclasses.replace")


class _FrozenDict(dict):
    """A dict that hashes by content and refuses to change."""

    def __hash__(self):
        return hash(frozenset(self.items()))

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self):
        return _FrozenDict, (dict(self),)


def _node(value) -> int | None:
    """The number of a node that a value is, of whatever type; None if it is none."""
    number = whole(value)
    return number if number is not None and 0 <= number < MAX_NODES else None


def _is_name(value) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"\w{{1,{MAX_NAME}}}", value) is not None


def _check_kind(kind) -> None:
    if not _is_name(kind) or not kind.isidentifier():
        raise ValueError(
            f"a kind of cell is named by an identifier such as 'normal', not {shown(kind)}"
        )


def _checked_picks(kind, options) -> tuple[str | None, ...]:
    _check_kind(kind)
    if not isinstance(options, (list, tuple)) or not options:
        raise ValueError(f"picks of {kind!r} are a list of options, not {shown(options)}")
    for row, option in enumerate(options):
        if option is not None and not _is_name(option):
            raise ValueError(
                f"row {row} of {kind!r} needs the name of an option such as 'k3', or None where it"
                f" was not kept; got {shown(option)}"
            )
    return tuple(options)


def _checked_edges(kind, edges) -> tuple[Edge, ...]:
    _check_kind(kind)
    if not isinstance(edges, (list, tuple)) or not edges:
        raise ValueError(
            f"cell {kind!r} needs a list of edges (source, target, op), not {shown(edges)}"
        )
    checked = []
    for number, edge in enumerate(edges):
        where = f"edge {number} of cell {kind!r}"
        if not isinstance(edge, (list, tuple)) or len(edge) != 3:
            raise ValueError(f"{where} must be (source, target, op), not {shown(edge)}")
        *ends, op = edge
        source, target = map(_node, ends)
        if source is None or target is None or source >= target:
            raise ValueError(
                f"{where} must lead from a node to a later one, both numbered from 0 to"
                f" {MAX_NODES - 1}; got {shown(ends[0])} -> {shown(ends[1])}"
            )
        if not _is_name(op):
            raise ValueError(
                f"{where} needs the name of an op such as 'sep_conv_3x3', not {shown(op)}"
            )
        checked.append(Edge(source, target, op))
    edge, times = collections.Counter(checked).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"cell {kind!r} has the edge {tuple(edge)} more than once; each may be there once"
        )
    return tuple(checked)


def _checked_concat(kind, nodes, edges) -> tuple[int, ...]:
    if (
        not isinstance(nodes, (list, tuple, range))
        or not nodes
        or any(_node(node) is None for node in nodes)
    ):
        raise ValueError(
            f"concat of cell {kind!r} must be a list of node numbers such as [2, 3, 4, 5], not"
            f" {shown(nodes)}"
        )
    nodes = tuple(map(int, nodes))
    if len(set(nodes)) != len(nodes):
        raise ValueError(f"concat of cell {kind!r} names a node twice: {list(nodes)}")
    last = max(edge.target for edge in edges)
    if max(nodes) > last:
        raise ValueError(
            f"concat of cell {kind!r} names node {max(nodes)}, but its last node is {last}"
        )
    return nodes


def _entered(edges) -> tuple[int, ...]:
    return tuple(sorted({edge.target for edge in edges}))
