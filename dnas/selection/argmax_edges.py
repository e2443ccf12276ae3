"""The rule of NAS-Bench-201 and SNAS: every edge keeps its strongest op, and `none` is one of them.

NAS-Bench-201, https://arxiv.org/abs/2001.00326; SNAS, https://arxiv.org/abs/1812.09926.
"""

import math

from dnas.base import Mix
from dnas.genotype import Edge, Genotype
from dnas.selection.selection import Selection, checked_rows, genotype_of
from dnas.space import SearchSpace, check_genotype


def argmax_edges(*, keep_none: bool = True) -> Selection:
    """Returns the rule that gives every edge its strongest op, `none` included; on a tie the
    earlier op wins.

    An edge without any weight has been dropped during the search, and counts as `none` where the
    space has it.

    Args:
      keep_none: list an edge of `none` as such, as the strings of NAS-Bench-201 do: every mix has a
        genotype then. False lets such edges vanish, which SNAS does in the DARTS space; the same
        network without the zeros.

    Raises:
      ValueError: on selection if the mix does not fit the space or holds a NaN, or if so many edges
        vanish that a node which the cell needs is left without any.

    Example:
      >>> import dnas, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> genotype = argmax_edges()(space, {kind: np.eye(14, 8) for kind in space.cells})
      >>> [edge.op for edge in genotype.cells["normal"]][:3], len(genotype.cells["normal"])
      (['none', 'max_pool_3x3', 'avg_pool_3x3'], 14)
    """

    def select(space: SearchSpace, mix: Mix) -> Genotype:
        cells = {}
        for kind, spec in space.cells.items():
            cells[kind] = []
            for edge, row in zip(spec.edges, checked_rows(space, kind, mix), strict=True):
                empty = "none" in spec.ops and not any(
                    weight for weight in row if weight > -math.inf
                )
                op = "none" if empty else spec.ops[max(range(len(row)), key=row.__getitem__)]
                if op != "none" or keep_none:
                    cells[kind].append(Edge(*edge, op))
        try:
            genotype = genotype_of(space, cells)
            check_genotype(space, genotype)
        except ValueError as error:
            raise ValueError(
                f"too many edges are `none` and vanish: {error}. Keep them with"
                " argmax_edges(keep_none=True), or choose by top_edges(), which excludes `none`"
            ) from None
        return genotype

    return select
