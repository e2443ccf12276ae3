"""When two cells are the same: a text that is equal for cells that compute the same function."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from dnas.checks import checked
from dnas.choices import NOTHING
from dnas.genotype import Edge, Genotype
from dnas.graph import live_edges

_INPUTS = {"nasbench201": 1}  # here a node that no edge enters is zero, and not an input
_IDENTITY = {"nasbench201": ("skip_connect",)}
# At the parts of a cell, while their orders are compared: two seconds. DARTS's cells, of 8 parts,
# have 576 orders at most.
_MAX_LOOKS = 2_000_000

Value = Counter  # {number of a term: how often it occurs in the sum}; empty for zero


class _Term(NamedTuple):
    """One application of an op."""

    op: str
    reads: Value


class _Cell(NamedTuple):
    """A cell as sums of terms. Terms from 0 to num_inputs - 1 are the inputs, and have no entry."""

    num_inputs: int
    terms: dict[int, _Term]  # in an order in which each reads earlier ones
    outputs: list[Value]  # one a concatenated node


@checked
def canonical_form(
    genotype: Genotype,
    *,
    identity: Collection[str] | None = None,
    zero: Collection[str] = NOTHING,
    weight_free: Collection[str] = ("avg_pool_3x3", "max_pool_3x3"),
    num_inputs: int | None = None,
) -> str:
    """Returns a text that two genotypes of one space share if and only if these steps make them the
    same:

    * an edge whose op is in `zero` goes, and so does an op that reads zero, and what no output
      reads;
    * an op in `identity` hands on the sum that it reads, so that a sum may hold a term twice;
    * the order of sums and concatenations, and the numbers of intermediate nodes, do not matter;
    * ops in `weight_free` are one where they are the same op of the same sum. Other ops have
      weights of their own, and are one only where they are one edge: 1<-0 read twice differs from
      1<-0 and 2<-0 read once each.

    Kinds that are no cells are written as they are; `canonical_genotype` comes before.

    Then some renaming of the weights makes the cells equal as functions, with one proviso: an op of
    zero is zero only as long as its norm adds nothing. A trained norm's shift, the same for every
    image, is left out; NAS-Bench-201 leaves it out too (https://arxiv.org/abs/2001.00326). Not
    used: that pooling is linear, and that two 1x1 convolutions of one input add up to one.

    Args:
      identity: by default "skip_connect" in the space "nasbench201" and nothing elsewhere, since a
        skip connection of a reduction cell has weights.
      zero: ops whose result is zero.
      weight_free: ops whose result depends on their input only.
      num_inputs: nodes of a cell that are given to it: by default 1 in the space "nasbench201", and
        elsewhere those before the first that an edge enters.

    Raises:
      ValueError: for a cell with so many parts that look alike that to compare their orders takes
        more than 2,000,000 looks at a part.

    Example:
      >>> cell = Genotype.from_text(
      ...     "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|"
      ... )
      >>> canonical_form(cell)
      't1 = nor_conv_3x3(x); x + t1'
      >>> other = Genotype.from_text(
      ...     "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|"
      ... )
      >>> canonical_form(cell) == canonical_form(other)
      True
    """
    if identity is None:
        identity = _IDENTITY.get(genotype.space, ())
    texts = {}
    for kind in sorted(genotype.cells):
        cell = _read(genotype, kind, identity, zero, weight_free, num_inputs)
        texts[kind] = _text(cell, min(_orders(cell)))
    for kind in sorted(genotype.picks):
        texts[kind] = " ".join(option or "-" for option in genotype.picks[kind])
    if len(texts) == 1:
        return texts.popitem()[1]
    return " | ".join(f"{kind}: {text}" for kind, text in texts.items())


@checked
def is_connected(
    genotype: Genotype, *, zero: Collection[str] = NOTHING, num_inputs: int | None = None
) -> bool:
    """Returns whether the output of every kind of cell depends on an input of it, over edges whose
    op is not in `zero`.

    `num_inputs` is as in `canonical_form`. Of the 15,625 cells of NAS-Bench-201, 341 are not
    connected: their networks stay at chance.

    Example:
      >>> is_connected(
      ...     Genotype.from_text("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
      ... )
      False
    """
    cells = (_read(genotype, kind, (), zero, (), num_inputs) for kind in genotype.cells)
    return all(any(cell.outputs) for cell in cells)


def computing_edges(
    genotype: Genotype, kind: str, zero: Collection[str] = NOTHING
) -> frozenset[Edge]:
    """Returns the edges that are not zero: a genotype may name those of op none or leave them
    out."""
    return frozenset(edge for edge in genotype.cells[kind] if edge.op not in zero)


def _read(
    genotype: Genotype,
    kind: str,
    identity: Collection[str],
    zero: Collection[str],
    weight_free: Collection[str],
    num_inputs: int | None,
) -> _Cell:
    if num_inputs is None:
        first = min(edge.target for edge in genotype.cells[kind])
        num_inputs = _INPUTS.get(genotype.space, first)
    concat = genotype.concat_of(kind)
    # What is zero, reads zero or is read by no output is left out from the start.
    edges = computing_edges(genotype, kind, zero)
    live = live_edges({edge[:2] for edge in edges}, num_inputs, concat)
    values = {number: Value([number]) for number in range(num_inputs)}
    terms, known = {}, {}
    for source, target, op in sorted(edges, key=lambda edge: edge.target):
        if (source, target) not in live:
            continue
        reads, into = values[source], values.setdefault(target, Value())
        if op in identity:
            into.update(reads)
            continue
        term = num_inputs + len(terms)
        if op in weight_free:
            term = known.setdefault((op, frozenset(reads.items())), term)
        terms.setdefault(term, _Term(op, reads))
        into[term] += 1
    return _Cell(num_inputs, terms, [values.get(node, Value()) for node in concat])


def _orders(cell: _Cell) -> Iterator[tuple]:
    """Yields (lines, outputs) of every order of the terms in which the next is always one with the
    least line.

    A line is (op, what it reads in terms of earlier lines). Which terms are least depends on the
    function alone and not on how nodes are numbered, so the least of all orders does too. Only
    terms with equal lines lead to several orders.
    """
    paths, looks = [({n: n for n in range(cell.num_inputs)}, ())], 0
    while paths:
        placed, lines = paths.pop()
        while len(lines) < len(cell.terms):
            ready = {
                number: (term.op, _renamed(term.reads, placed))
                for number, term in cell.terms.items()
                if number not in placed and all(read in placed for read in term.reads)
            }
            least = min(ready.values())
            tied = []  # of those that can be swapped, one stands for all
            for number in (number for number, line in ready.items() if line == least):
                looks += len(cell.terms) * (1 + 4 * len(tied))
                if looks > _MAX_LOOKS:
                    raise ValueError(
                        f"the cell has {len(cell.terms)} parts, too many of which look alike; it is"
                        " too large to compare"
                    )
                if not any(_swappable(cell, number, other) for other in tied):
                    tied.append(number)
            lines += (least,)
            paths += [({**placed, number: len(placed)}, lines) for number in tied[1:]]
            placed[tied[0]] = len(placed)
        yield lines, tuple(sorted(_renamed(value, placed) for value in cell.outputs))


def _swappable(cell: _Cell, one: int, other: int) -> bool:
    """Whether two terms that read the same could trade places without anyone noticing."""
    trade = {one: other, other: one}

    def items(value, swap):
        return frozenset((swap.get(number, number), count) for number, count in value.items())

    return all(
        items(term.reads, trade) == items(term.reads, {}) for term in cell.terms.values()
    ) and Counter(items(value, trade) for value in cell.outputs) == Counter(
        items(value, {}) for value in cell.outputs
    )


def _renamed(value: Value, placed: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((placed[number], count) for number, count in value.items()))


def _text(cell: _Cell, order: tuple) -> str:
    lines, outputs = order
    names = ["x"] if cell.num_inputs == 1 else [f"x{number}" for number in range(cell.num_inputs)]
    names += [f"t{number}" for number in range(1, len(lines) + 1)]

    def written(value):
        return (
            " + ".join(names[n] if count == 1 else f"{count} {names[n]}" for n, count in value)
            or "0"
        )

    parts = [
        f"{names[cell.num_inputs + number]} = {op}({written(reads)})"
        for number, (op, reads) in enumerate(lines)
    ]
    return "; ".join([*parts, ", ".join(written(value) for value in outputs)])
