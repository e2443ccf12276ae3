"""The rule of DARTS: the strongest edges of each node. Section 2.4,
https://arxiv.org/abs/1806.09055."""

from collections.abc import Sequence

from dnas.checks import checked
from dnas.choices import Choices
from dnas.selection.selection import Selection, Weights, by_group, genotype_by


@checked
def top_edges(k: int = 2) -> Selection:
    """Returns DARTS's rule: each node keeps its k strongest edges, each edge its strongest op,
    `none` excluded.

    The strength of an edge is the largest weight among its ops but `none`; `none` competes in the
    relaxation and so lowers the others, yet is never chosen. On ties the earlier source and the
    earlier op win. The edges of a node are listed by falling strength. DARTS, section 2.4,
    https://arxiv.org/abs/1806.09055.

    It is PC-DARTS's rule as well, https://arxiv.org/abs/1907.05737: a mix with edge weights already
    is the product of its alpha and beta, so that ops and edges are ranked by that product.

    Raises:
      ValueError: if k is below 1; on selection if the mix does not fit the space, holds a NaN, or a
        node has fewer than k incoming edges.

    Example:
      >>> import dnas, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> genotype = top_edges()(space, {kind: np.full((14, 8), 1 / 8) for kind in space.cells})
      >>> genotype.cells["normal"][:2]
      (Edge(source=0, target=2, op='max_pool_3x3'), Edge(source=1, target=2, op='max_pool_3x3'))
    """
    if k < 1:
        raise ValueError(f"each node keeps at least one edge, got k = {k}")
    return lambda space, mix: genotype_by(
        space, mix, lambda kind, choices, weights: top_options(kind, choices, weights, k)
    )


def top_options(kind: str, choices: Choices, weights: Weights, k: int) -> list[tuple[int, int]]:
    """Returns (row, column) of the k strongest rows of each group, those that compete with no other
    row besides, and of each its strongest option that computes something."""

    def keep(falling: Sequence[int], strengths: Sequence[float]) -> Sequence[int]:
        if len(falling) < k:
            raise ValueError(
                f"a node of cell {kind!r} has {len(falling)} incoming edges"
                f" {[choices.rows[row] for row in falling]}, fewer than k = {k}"
            )
        return falling[:k]

    return by_group(choices, weights, keep)
