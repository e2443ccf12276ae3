"""The text notations of published genotypes, read without evaluating them. Standard library only.

A cell is plain data here: edges are (source, target, op) tuples, and {kind: edges}, {kind: concat}
  describe a genotype.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

Cells = dict[str, list[tuple[int, int, str]]]
Concat = dict[str, tuple[int, ...]]
AnyCells = Mapping[str, Sequence[tuple[int, int, str]]]  # those that are written
Picks = dict[str, list[str | None]]

MAX_NODES = 1000  # of a cell; what writes or draws a cell goes through all of its nodes
MAX_NAME = 100  # characters of the name of a kind or an op

_CALL = re.compile(r"\bGenotype\(")
_TOKEN = re.compile(r"""'[^'\n]*'|"[^"\n]*"|\#[^\n]*|[()]""")
_STRING = re.compile(r"\|(?:\w+~\d+\|)+(?:\+\|(?:\w+~\d+\|)+)*")  # of NAS-Bench-201


def excerpt(text: str) -> str:
    """Returns the one genotype in the notation of DARTS or of NAS-Bench-201 in a text: a line of a
    log, or Python such as "MINE = Genotype(...)". A text without one is returned as it is.

    Raises:
      ValueError: for a text that holds several, such as a whole log.

    Example:
      >>> excerpt("epoch 3: Structure(4 nodes with |none~0|+|none~0|none~1|), 91.2 %")
      '|none~0|+|none~0|none~1|'
    """
    if _CALL.match(text) or text.startswith("|"):
        return text
    found = dict.fromkeys(_STRING.findall(text))
    place = 0
    while call := _CALL.search(text, place):
        place = _end(text, call.end())
        found[text[call.start() : place]] = None
    if len(found) > 1:
        raise ValueError(
            f"the text holds {len(found)} genotypes; give one of them, in a log mostly the last:"
            f" {list(found)[-1]:.200}"
        )
    return next(iter(found), text)


def _end(text: str, place: int) -> int:
    """The place after the bracket that closes the one before `place`."""
    depth = 1
    for token in _TOKEN.finditer(text, place):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if not depth:
            return token.end()
    return len(text)


def parse_original(text: str) -> tuple[Cells, Concat]:
    """Returns (cells, concat) of "Genotype(normal=[(op, source), ...], normal_concat=[2, 3, 4, 5],
    ...)".

    The notation of quark0/darts, cnn/genotypes.py: each cell has two inputs, and every later node
    the same number of entries. Or, as khanrc/pt.darts and AutoDL-Projects write it, a list for each
    node: "normal=[[(op, source), (op, source)], ...]"; these may leave out the concat. Fields that
    are None are not there. Raises ValueError with the place in the text.
    """
    fields = read_fields(text)
    kinds = [name for name in fields if not name.endswith("_concat")]
    if not kinds:
        raise ValueError(
            "the genotype has no cells; write normal=[(op, node), ...], reduce=[(op, node), ...]"
        )
    concats = {kind: fields.pop(f"{kind}_concat", None) for kind in kinds}
    lost = sorted(set(fields) - set(kinds))
    if lost:
        raise ValueError(
            f"the genotype has {lost} without the cell it belongs to; cells given: {kinds}"
        )
    cells, concat = {}, {}
    for kind in kinds:
        if concats[kind] is not None:
            concat[kind] = _read_nodes(f"{kind}_concat", concats[kind])
        nodes = _elements(kind, fields[kind])
        if all(map(_is_list_of_lists, nodes)):
            pairs = [_read_pairs(kind, node) for node in nodes]
        elif kind in concat:
            pairs = _by_node(kind, _read_pairs(kind, fields[kind]), concat[kind])
        else:
            raise ValueError(
                f"the genotype has no {kind}_concat; write for instance {kind}_concat=range(2, 6)"
            )
        cells[kind] = _edges_of(kind, pairs, first=2)
    return cells, concat


def read_fields(text: str) -> dict[str, ast.expr]:
    """Returns the fields of "Genotype(name=..., ...)", unread. Raises ValueError with the place in
    the text."""
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = ""
        if isinstance(error, SyntaxError) and error.lineno:
            where = f" at line {error.lineno}, column {error.offset}"
        raise ValueError(f"the genotype is not well-formed{where}: {error}") from None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id != "Genotype"
        or call.args
    ):
        raise ValueError(
            "a genotype in the original notation is one call 'Genotype(normal=...,"
            " normal_concat=..., ...)'"
        )
    fields = {}
    for keyword in call.keywords:
        name = keyword.arg
        if name is None or name in fields or len(name) > MAX_NAME:
            raise ValueError(
                f"field {name or '**':.80} of the genotype{_at(keyword)} is repeated or not a plain"
                " field"
            )
        fields[name] = keyword.value
    return {
        name: value
        for name, value in fields.items()
        if not (isinstance(value, ast.Constant) and value.value is None)
    }


def _at(node) -> str:
    return f" at line {node.lineno}, column {node.col_offset + 1}"


def _elements(kind, node) -> list[ast.expr]:
    if not isinstance(node, (ast.List, ast.Tuple)) or not node.elts:
        raise ValueError(f"{kind}{_at(node)} must be a list of (op, node) pairs")
    return node.elts


def _is_list_of_lists(node) -> bool:
    parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else []
    return bool(parts) and all(isinstance(part, (ast.List, ast.Tuple)) for part in parts)


def _read_pairs(kind, node) -> list[tuple[str, int]]:
    pairs = []
    for element in _elements(kind, node):
        parts = element.elts if isinstance(element, (ast.Tuple, ast.List)) else []
        values = [part.value if isinstance(part, ast.Constant) else None for part in parts]
        if len(values) != 2 or not isinstance(values[0], str) or not _is_node(values[1]):
            raise ValueError(
                f"{kind}{_at(element)} must be a pair (op, node) such as ('sep_conv_3x3', 1), not"
                f" {_shown(element)}"
            )
        pairs.append((values[0], values[1]))
    return pairs


def _read_nodes(name, node) -> tuple[int, ...]:
    problem = ValueError(
        f"{name}{_at(node)} must be a list of node numbers or range(first, end), not {_shown(node)}"
    )
    if isinstance(node, ast.Call):
        if (
            not isinstance(node.func, ast.Name)
            or node.func.id != "range"
            or node.keywords
            or len(node.args) not in (1, 2)
        ):
            raise problem
        elements = node.args
    elif isinstance(node, (ast.List, ast.Tuple)):
        elements = node.elts
    else:
        raise problem
    values = []
    for element in elements:
        value = element.value if isinstance(element, ast.Constant) else None
        if not _is_node(value):
            raise problem
        values.append(value)
    nodes = tuple(range(*values)) if values and isinstance(node, ast.Call) else tuple(values)
    if not nodes:
        raise problem
    return nodes


def _by_node(kind, pairs, concat) -> list[list[tuple[str, int]]]:
    """The pairs of each node after the two inputs."""
    # The notation does not say how many pairs a node has. DARTS has two; other counts are
    # recognised where the concatenated nodes tell how many nodes there are.
    num_nodes = len(pairs) // 2
    if len(pairs) % 2 or max(concat) != num_nodes + 1:
        num_nodes = max(concat) - 1
    if num_nodes < 1 or len(pairs) % num_nodes:
        raise ValueError(
            f"cell {kind!r} has {len(pairs)} pairs and concatenates nodes {list(concat)}; every"
            " node after the two inputs needs the same number of pairs (two in DARTS: 8 pairs for"
            " nodes 2 to 5)"
        )
    per_node = len(pairs) // num_nodes
    return [pairs[start : start + per_node] for start in range(0, len(pairs), per_node)]


def _edges_of(kind, nodes, *, first) -> list[tuple[int, int, str]]:
    """The edges of the pairs of each node, numbered from `first` on."""
    edges = []
    for target, pairs in enumerate(nodes, start=first):
        for op, source in pairs:
            if source >= target:
                raise ValueError(
                    f"pair {len(edges)} of cell {kind!r}, {(op, source)}, belongs to node"
                    f" {target}: its source must be below"
                )
            edges.append((source, target, op))
    return edges


def is_recurrent(text: str) -> bool:
    """Returns whether the text is in the notation of quark0/darts, rnn/genotypes.py, which
    `parse_recurrent` reads."""
    return set(read_fields(text)) == {"recurrent", "concat"}


def parse_recurrent(text: str) -> tuple[Cells, Concat]:
    """Returns (cells, concat) of "Genotype(recurrent=[(op, source), ...], concat=range(1, 9))": one
    entry a node, from 1 on."""
    fields = read_fields(text)
    pairs = _read_pairs("recurrent", fields["recurrent"])
    edges = _edges_of("recurrent", [[pair] for pair in pairs], first=1)
    return {"recurrent": edges}, {"recurrent": _read_nodes("concat", fields["concat"])}


def write_recurrent(cells: AnyCells, concat: Concat) -> str:
    """Returns the text that `parse_recurrent` reads back to the same cell, or raises ValueError if
    there is none."""
    nodes = concat["recurrent"]
    in_a_row = list(nodes) == list(range(nodes[0], nodes[-1] + 1))
    written = f"range({nodes[0]}, {nodes[-1] + 1})" if in_a_row else list(nodes)
    pairs = [(op, source) for source, _, op in cells["recurrent"]]
    text = f"Genotype(recurrent={pairs}, concat={written})"
    if not _reads_back(parse_recurrent, text, cells, concat):
        raise ValueError(
            "the notation of a recurrent cell lists one edge for each node, from node 1 on; use"
            " to_json()"
        )
    return text


def write_original(cells: AnyCells, concat: Concat) -> str:
    """Returns the text that `parse_original` reads back to the same cells, or raises ValueError if
    there is none."""
    fields = []
    for kind, edges in cells.items():
        pairs = [(op, source) for source, _, op in edges]
        fields += [f"{kind}={pairs}", f"{kind}_concat={list(concat[kind])}"]
    text = f"Genotype({', '.join(fields)})"
    if not _reads_back(parse_original, text, cells, concat):
        raise ValueError(
            f"cells {list(cells)} do not fit the original notation, in which edges are listed node"
            " by node and all nodes from 2 on have the same number of them; use to_json()"
        )
    return text


def parse_nasbench201(text: str) -> tuple[Cells, Concat]:
    """Returns (cells, concat) of "|op~0|+|op~0|op~1|+...": one group a node,
    https://arxiv.org/abs/2001.00326."""
    edges = []
    for target, group in enumerate(text.split("+"), start=1):
        if not re.fullmatch(r"\|(\w+~\d{1,3}\|)+", group):
            raise ValueError(
                f"node {target} of the NAS-Bench-201 string is {group[:80]!r}; write it like"
                " '|nor_conv_3x3~0|'"
            )
        entries = [entry.split("~") for entry in group.strip("|").split("|")]
        edges += [(int(source), target, op) for op, source in entries]
    return {"cell": edges}, {"cell": (target,)}


def write_nasbench201(cells: AnyCells, concat: Concat) -> str:
    """Returns the text that `parse_nasbench201` reads back, or raises ValueError if there is
    none."""
    if set(cells) != {"cell"}:
        raise ValueError(
            f"a NAS-Bench-201 string holds one cell named 'cell', not {sorted(cells)}; use"
            " to_json()"
        )
    last = max(target for _, target, _ in cells["cell"])
    groups = [
        [f"{op}~{source}|" for source, target, op in cells["cell"] if target == node]
        for node in range(1, last + 1)
    ]
    if not all(groups):
        raise ValueError("a NAS-Bench-201 string needs an edge into every node; use to_json()")
    text = "+".join("|" + "".join(group) for group in groups)
    if not _reads_back(parse_nasbench201, text, cells, concat):
        raise ValueError(
            "a NAS-Bench-201 string lists edges node by node, and its last node is the output; use"
            " to_json()"
        )
    return text


def is_layers(text: str) -> bool:
    """Whether the text begins as a layer-wise genotype does: with the name of its space and a
    colon."""
    return re.match(r"\w+:\s", text) is not None


def parse_layers(text: str) -> tuple[str, Cells, Concat]:
    """Returns (space, cells, concat) of "fbnet: k3_e1, k5_e6, ...": one block a layer, from the
    first layer to the last."""
    space, _, rest = text.partition(":")
    blocks = [block.strip() for block in rest.split(",")]
    for number, block in enumerate(blocks):
        if not re.fullmatch(r"\w+", block):
            raise ValueError(
                f"layer {number} of the genotype is {block[:80]!r}, not the name of a block such as"
                " 'k3_e1'"
            )
    edges = [(number, number + 1, block) for number, block in enumerate(blocks)]
    return space, {"layers": edges}, {"layers": (len(blocks),)}


def write_layers(space: str, cells: AnyCells, concat: Concat) -> str:
    """Returns the text that `parse_layers` reads back, or raises ValueError if there is none."""
    text = f"{space}: {', '.join(op for _, _, op in cells['layers'])}"
    if not is_layers(text) or not _reads_back(
        lambda text: parse_layers(text)[1:], text, cells, concat
    ):
        raise ValueError(
            "a layer-wise genotype lists one block a layer, the first one first, after the name of"
            " its space, one word; use to_json()"
        )
    return text


def is_picks(text: str) -> bool:
    """Whether the text begins as a genotype without cells does: with the name of its space, a colon
    and a kind with an equals sign."""
    return re.match(r"\w+:\s*\w+\s*=", text) is not None


def parse_picks(text: str) -> tuple[str, Picks]:
    """Returns (space, picks) of "digits: kernel = k3 k5; depth = d2": an option for each row of
    each kind, "-" for a row that is not kept."""
    space, _, rest = text.partition(":")
    picks: Picks = {}
    for field in rest.split(";"):
        match = re.fullmatch(r"\s*(\w+)\s*=((?:\s+(?:\w+|-))+)\s*", field)
        if not match or match[1] in picks:
            raise ValueError(
                f"{field.strip()[:80]!r} is not a kind, each once, and the options of its rows,"
                " such as 'kernel = k3 k5'"
            )
        picks[match[1]] = [None if name == "-" else name for name in match[2].split()]
    return space, picks


def write_picks(space: str, picks: Mapping[str, Sequence[str | None]], cells: AnyCells) -> str:
    """Returns the text that `parse_picks` reads back, or raises ValueError if there is none."""
    if cells or not re.fullmatch(r"\w+", space):
        raise ValueError(
            "the notation of picks has no place for cells, and the name of the space in it is one"
            " word; use to_json()"
        )
    rows = {kind: " ".join(name or "-" for name in options) for kind, options in picks.items()}
    return f"{space}: " + "; ".join(f"{kind} = {own}" for kind, own in rows.items())


def _reads_back(parse, text: str, cells: AnyCells, concat: Concat) -> bool:
    try:
        return parse(text) == ({kind: list(edges) for kind, edges in cells.items()}, dict(concat))
    except ValueError:
        return False


def _is_node(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_NODES


def _shown(node) -> str:
    try:
        return f"{ast.unparse(node):.80}"
    except (RecursionError, ValueError):  # ValueError for a number of thousands of digits
        return "a huge expression"
