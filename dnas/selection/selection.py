"""What a selection is, and what every selection needs."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dnas.base import Mix
from dnas.genotype import Edge, Genotype
from dnas.space import CellSpec, SearchSpace

Selection = Callable[[SearchSpace, Mix], Genotype]


def checked_rows(space: SearchSpace, kind: str, mix: Mix) -> list[list[float]]:
    """Returns the mix of one kind as plain numbers, minus infinity for an op that its edge does not
    have.

    Raises:
      ValueError: if the mix does not fit the space or holds a NaN.
    """
    spec = space.cells[kind]
    if kind not in mix:
        raise ValueError(
            f"the mix has no cell {kind!r}; it has {sorted(mix)}, and the space {space.name!r} has"
            f" {sorted(space.cells)}"
        )
    rows = np.asarray(mix[kind], float)
    if rows.shape != (len(spec.edges), len(spec.ops)):
        raise ValueError(
            f"the mix of cell {kind!r} has shape {rows.shape}, expected"
            f" {(len(spec.edges), len(spec.ops))}"
        )
    if np.isnan(rows).any():
        raise ValueError(
            f"the mix of cell {kind!r} holds NaN: the search has diverged; lower its learning rates"
        )
    return np.where(spec.allowed, rows, -math.inf).tolist()


def best_ops(spec: CellSpec, rows: Sequence[Sequence[float]]) -> list[tuple[float, str]]:
    """Returns of each edge (weight, op) of its strongest op but `none`; on a tie the earlier op."""
    allowed = [column for column, op in enumerate(spec.ops) if op != "none"]
    best = [max(allowed, key=row.__getitem__) for row in rows]
    return [(row[column], spec.ops[column]) for row, column in zip(rows, best, strict=True)]


def edges_by_node(
    space: SearchSpace,
    mix: Mix,
    keep: Callable[[str, int, list[int], Sequence[tuple[float, str]]], Sequence[int]],
) -> Genotype:
    """Returns the genotype in which every node keeps some of the edges that enter it, each with its
    strongest op but `none`.

    Args:
      keep: (kind, node, its edges by falling strength, (weight, op) of each edge of the cell) ->
        those that it keeps.
    """
    cells = {}
    for kind, spec in space.cells.items():
        best = best_ops(spec, checked_rows(space, kind, mix))
        kept = [
            edge
            for node in spec.nodes
            for edge in keep(kind, node, by_strength(spec, node, best), best)
        ]
        cells[kind] = [Edge(*spec.edges[edge], best[edge][1]) for edge in kept]
    return genotype_of(space, cells)


def by_strength(spec: CellSpec, node: int, best: Sequence[tuple[float, str]]) -> list[int]:
    """Returns the edges that enter a node by falling weight of their best op; on a tie the earlier
    source comes first."""
    return sorted(spec.incoming(node), key=lambda edge: -best[edge][0])


def genotype_of(space: SearchSpace, cells: Mapping[str, Sequence[Edge]]) -> Genotype:
    """Returns the genotype with these edges and the outputs that the space gives its cells."""
    return Genotype(space.name, cells, {kind: spec.concat for kind, spec in space.cells.items()})
