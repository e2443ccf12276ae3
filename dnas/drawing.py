"""Genotypes drawn as SVG with the standard library, so that they show themselves wherever SVG
does."""

from html import escape

_COLOURS = ("#2f6db3", "#c4473a", "#3c8d5a", "#7d57a8", "#c77d1e", "#23868c", "#8c5a2b", "#5f6673")
_NOTHING = "#bdbdbd"  # of an edge that carries nothing
# Pixels: node width, space between nodes, height of a lane, margin.
_NODE, _GAP, _LANE, _MARGIN = (
    46,
    130,
    26,
    24,
)
# Of a chain: width and height of a box, from box to box, from row to row.
_BOX, _HEIGHT, _STEP, _ROW = (
    96,
    30,
    118,
    64,
)
_IN_ROW, _CHAIN = 8, 5  # boxes in a row; a chain of so many edges is drawn as boxes


def draw_genotype(cells, concat, picks, output="concatenation") -> str:
    """Returns one SVG picture of all cells and picks.

    The nodes of a cell stand in a row; every edge runs in a lane of its own above the row, labelled
    with its op, so that no two labels meet; an edge that carries `none` is faint and dashed. Nodes
    that are concatenated to the output have a double border. A longer chain, as in a layer-wise
    space, is drawn as rows of boxes, one an edge, and so are picks, a box an option.

    Args:
      cells: {kind: [(source, target, op), ...]}.
      concat: {kind: node numbers}.
      picks: {kind: [option or None, ...]}.
      output: what is made of these nodes.
    """
    chains = {
        kind: [(row, row + 1, option or "none") for row, option in enumerate(options)]
        for kind, options in picks.items()
    }
    ops = {op for edges in (*cells.values(), *chains.values()) for _, _, op in edges}
    ops = sorted(ops - {"none"})
    colours = {op: _COLOURS[number % len(_COLOURS)] for number, op in enumerate(ops)} | {
        "none": _NOTHING
    }
    parts, top, width = [], 0, 0
    for kind, edges in (*cells.items(), *chains.items()):
        if kind in chains or _is_chain(edges, concat[kind]):
            picture, cell_width, cell_height = _draw_chain(kind, edges, colours)
        else:
            picture, cell_width, cell_height = _draw_cell(
                kind, edges, concat[kind], colours, output
            )
        parts.append(f'<g transform="translate(0 {top})">{picture}</g>')
        top, width = top + cell_height, max(width, cell_width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0'
        f' {width} {top}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%"'
        f' fill="white"/>{"".join(parts)}</svg>'
    )


def _is_chain(edges, concat) -> bool:
    linked = all(
        (source, target) == (number, number + 1) for number, (source, target, _) in enumerate(edges)
    )
    return linked and len(edges) >= _CHAIN and tuple(concat) == (len(edges),)


def _draw_chain(kind, edges, colours):
    parts = [_title(kind)]
    for number, (source, _, op) in enumerate(edges):
        x, y = _MARGIN + number % _IN_ROW * _STEP, _MARGIN + 28 + number // _IN_ROW * _ROW
        middle, colour = x + _BOX / 2, colours[op]
        # What only passes on is hollow, so that the depth of the network can be seen.
        style = (
            f'fill="{colour}" fill-opacity="0.16"'
            if "skip" not in op
            else 'fill="none" stroke-dasharray="4 3"'
        )
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_HEIGHT}" rx="5" {style}'
            f' stroke="{colour}" stroke-width="1.6"/><text x="{middle}" y="{y + 19}"'
            f' text-anchor="middle" fill="#222">{escape(op)}</text><text x="{middle}" y="{y - 4}"'
            f' text-anchor="middle" font-size="9" fill="#666">{source}</text>'
        )
        if number == len(edges) - 1:
            continue
        end, line = x + _BOX, y + _HEIGHT / 2
        if (number + 1) % _IN_ROW:
            tip = x + _STEP
            parts.append(f'<path d="M{end} {line} H{tip - 6}" stroke="#444" stroke-width="1.3"/>')
        else:  # around to the first box of the next row
            tip, between, line = _MARGIN, y + _HEIGHT + 8, line + _ROW
            parts.append(
                f'<path d="M{end} {line - _ROW} H{end + 10} V{between} H{tip - 14} V{line}'
                f' H{tip - 6}" fill="none" stroke="#444" stroke-width="1.3"/>'
            )
        parts.append(f'<path d="M{tip - 6} {line - 3.5} v7 l6 -3.5 z" fill="#444"/>')
    rows = -(-len(edges) // _IN_ROW)
    width = 2 * _MARGIN + (min(len(edges), _IN_ROW) - 1) * _STEP + _BOX
    return "".join(parts), width, _MARGIN + 28 + (rows - 1) * _ROW + _HEIGHT + _MARGIN


def _title(kind) -> str:
    return (
        f'<text x="{_MARGIN}" y="{_MARGIN}" font-size="15" font-weight="bold"'
        f' fill="#222">{escape(kind)}</text>'
    )


def _draw_cell(kind, edges, concat, colours, output):
    sources = {source for source, _, _ in edges}
    targets = {target for _, target, _ in edges}
    nodes = range(max(targets) + 1)
    inputs = sorted(sources - targets)
    lanes = _lanes(edges)
    row = _MARGIN + 16 + _LANE * (max(lanes.values()) + 1) + 8
    left = {node: _MARGIN + node * (_NODE + _GAP) for node in nodes}
    ports = _ports(edges, lanes, left)
    parts = [_title(kind)]
    for number, (_, _, op) in enumerate(edges):
        height = row - 8 - _LANE * lanes[number]
        start, end = ports[number]
        colour, dashes = colours[op], ' stroke-dasharray="3 4"' if op == "none" else ""
        parts.append(
            f'<path d="M{start} {row} V{height + 8} Q{start} {height} {start + 8} {height}'
            f' H{end - 8} Q{end} {height} {end} {height + 8} V{row - 5}" fill="none"'
            f' stroke="{colour}" stroke-width="1.6"{dashes}/><path d="M{end - 3.5} {row - 6} h7'
            f' l-3.5 6 z" fill="{colour}"/><text x="{start + 12}" y="{height - 4}"'
            f' fill="{colour}">{escape(op)}</text>'
        )
    for node in nodes:
        name = f"in {inputs.index(node)}" if node in inputs else str(node)
        fill = "#e8eef7" if node in inputs else "#f6f6f6"
        parts.append(
            f'<rect x="{left[node]}" y="{row}" width="{_NODE}" height="26" rx="5" fill="{fill}"'
            f' stroke="#444"/><text x="{left[node] + _NODE / 2}" y="{row + 17}"'
            f' text-anchor="middle" fill="#222">{name}</text>'
        )
        if node in concat:
            parts.append(
                f'<rect x="{left[node] + 2.5}" y="{row + 2.5}" width="{_NODE - 5}" height="21"'
                ' rx="3" fill="none" stroke="#444"/>'
            )
    outputs = ", ".join(map(str, concat))
    legend = (
        f"output: {output} of nodes {outputs}" if len(concat) > 1 else f"output: node {outputs}"
    )
    parts.append(f'<text x="{_MARGIN}" y="{row + 44}" fill="#666">{legend}</text>')
    return "".join(parts), left[nodes[-1]] + _NODE + _MARGIN, row + 56


def _lanes(edges) -> dict[int, int]:
    """A lane for each edge, short edges lowest, such that edges in one lane do not overlap."""
    taken, lanes = [], {}
    for number in sorted(range(len(edges)), key=lambda n: (edges[n][1] - edges[n][0], edges[n])):
        source, target, _ = edges[number]
        free = (
            lane
            for lane, spans in enumerate(taken)
            if all(target <= a or source >= b for a, b in spans)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((source, target))
        lanes[number] = lane
    return lanes


def _ports(edges, lanes, left) -> dict[int, tuple[float, float]]:
    """Where each edge leaves its source and enters its target: spread over the node, so that
    verticals do not meet.

    Into a node the lowest lane comes first and out of it the highest, so that no two lines cross at
    a node.
    """
    ends = {}
    for node in left:
        incoming = sorted((n for n, e in enumerate(edges) if e[1] == node), key=lambda n: lanes[n])
        outgoing = sorted((n for n, e in enumerate(edges) if e[0] == node), key=lambda n: -lanes[n])
        ordered = [(n, 1) for n in incoming] + [(n, 0) for n in outgoing]
        for place, port in enumerate(ordered):
            ends[port] = round(left[node] + _NODE * (place + 1) / (len(ordered) + 1), 1)
    return {number: (ends[number, 0], ends[number, 1]) for number in range(len(edges))}
