"""The rule of FairDARTS: what has grown strong enough is kept. https://arxiv.org/abs/1911.12126."""

from collections.abc import Sequence

from dnas.checks import checked
from dnas.selection.selection import Selection, by_group, genotype_by


@checked
def threshold(value: float = 0.85, *, k: int = 2) -> Selection:
    """Returns the rule by which a node keeps the edges whose strongest op reaches `value`, and of
    those the k strongest.

    `none` is excluded and ties go as in `top_edges`. For weights that do not compete, such as
    sigmoids. A node none of whose edges reaches the value keeps the strongest of them, which the
    released code does not: without an edge there would be no network. So a cell can have fewer
    edges than DARTS's; such a genotype is written with `to_json`.

    Args:
      value: weight, between 0 and 1: with 0 the rule is `top_edges(k)`.
      k: the most edges that a node keeps.

    Raises:
      ValueError: if k is below 1 or the value not between 0 and 1; on selection if the mix does not
        fit the space or holds a NaN.

    Example:
      >>> import dnas, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> genotype = threshold()(
      ...     space, {kind: np.linspace(0.1, 0.9, 112).reshape(14, 8) for kind in space.cells}
      ... )
      >>> [(edge.source, edge.target) for edge in genotype.cells["normal"]]
      [(1, 2), (2, 3), (3, 4), (4, 5)]
    """
    if k < 1:
        raise ValueError(f"each node keeps at least one edge, got k = {k}")
    if not 0 <= value <= 1:
        raise ValueError(f"the value that weights must reach is between 0 and 1, got {value}")

    def keep(falling: Sequence[int], strengths: Sequence[float]) -> Sequence[int]:
        return [row for row in falling[:k] if strengths[row] >= value] or falling[:1]

    return lambda space, mix: genotype_by(
        space, mix, lambda kind, choices, weights: by_group(choices, weights, keep)
    )
