"""How a discrete genotype is read off a mix."""

from collections.abc import Callable

import jax
import numpy as np

from dnas.base import Key, Mix
from dnas.genotype import Edge, Genotype
from dnas.space import SearchSpace

Selection = Callable[[SearchSpace, Mix], Genotype]


def top_edges(k: int = 2) -> Selection:
    """Returns DARTS's rule: each node keeps its k strongest edges, each edge its strongest op, `none` excluded.

    The strength of an edge is the largest weight among its ops but `none`; `none` competes in the relaxation and so lowers
    the others, yet is never chosen. On ties the earlier source and the earlier op win. The edges of a node are listed by
    falling strength. DARTS, section 2.4, https://arxiv.org/abs/1806.09055.

    Raises:
      ValueError: if k is below 1; on selection if the mix does not fit the space, holds a NaN, or a node has fewer
        than k incoming edges.

    Example:
      >>> import dnas, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> genotype = top_edges()(space, {kind: np.full((14, 8), 1 / 8) for kind in space.cells})
      >>> genotype.cells["normal"][:2]
      (Edge(source=0, target=2, op='max_pool_3x3'), Edge(source=1, target=2, op='max_pool_3x3'))
    """

    if k < 1:
        raise ValueError(f"each node keeps at least one edge, got k = {k}")

    def select(space: SearchSpace, mix: Mix) -> Genotype:
        cells = {}
        for kind, spec in space.cells.items():
            rows = _checked_rows(space, kind, mix)
            allowed = [column for column, op in enumerate(spec.ops) if op != "none"]
            best = [max(allowed, key=row.__getitem__) for row in rows]
            strength = [row[column] for row, column in zip(rows, best, strict=True)]
            cells[kind] = []
            for node in spec.nodes:
                incoming = spec.incoming(node)
                if len(incoming) < k:
                    raise ValueError(f"node {node} of cell {kind!r} has {len(incoming)} incoming edges, fewer than k = {k}")
                kept = sorted(incoming, key=lambda edge: -strength[edge])[:k]
                cells[kind] += [Edge(*spec.edges[edge], spec.ops[best[edge]]) for edge in kept]
        return Genotype(space.name, cells, {kind: spec.concat for kind, spec in space.cells.items()})

    return select


def _checked_rows(space: SearchSpace, kind: str, mix: Mix) -> list[list[float]]:
    spec = space.cells[kind]
    if kind not in mix:
        raise ValueError(
            f"the mix has no cell {kind!r}; it has {sorted(mix)}, and the space {space.name!r} has {sorted(space.cells)}"
        )
    rows = np.asarray(mix[kind])
    if rows.shape != (len(spec.edges), len(spec.ops)):
        raise ValueError(f"the mix of cell {kind!r} has shape {rows.shape}, expected {(len(spec.edges), len(spec.ops))}")
    if np.isnan(rows).any():
        raise ValueError(f"the mix of cell {kind!r} holds NaN: the search has diverged; lower its learning rates")
    return rows.tolist()


def random_genotype(key: Key, space: SearchSpace, select: Selection | None = None) -> Genotype:
    """Returns a genotype drawn at random: what `select` (`top_edges()` unless given) makes of independent random weights.

    With `top_edges` every pair of sources and every op but `none` is equally likely at each node: the random baseline of
    the space, https://arxiv.org/abs/1902.07638.
    """
    mix = {}
    for kind, part in zip(space.cells, jax.random.split(key, len(space.cells)), strict=True):
        spec = space.cells[kind]
        mix[kind] = jax.random.uniform(part, (len(spec.edges), len(spec.ops)))
    return (top_edges() if select is None else select)(space, mix)
