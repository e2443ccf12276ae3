"""The rule of NAS-Bench-201 and SNAS: every edge keeps its strongest op, and `none` is one of them.

NAS-Bench-201, https://arxiv.org/abs/2001.00326; SNAS, https://arxiv.org/abs/1812.09926.
"""

import math

from dnas.base import Mix
from dnas.checks import checked
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.selection.selection import Selection, Weights, picked_by
from dnas.space import SearchSpace, check_genotype, genotype_of


@checked
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
        def read(kind: str, choices: Choices, weights: Weights) -> list[tuple[int, int]]:
            picked = argmax_options(choices, weights)
            if keep_none or kind not in space.cells:
                return picked
            return [(row, column) for row, column in picked if not choices.is_nothing[column]]

        picked = picked_by(space, mix, read)
        try:
            genotype = genotype_of(space, picked)
            check_genotype(space, genotype)
        except ValueError as error:
            raise ValueError(
                f"too many edges are `none` and vanish: {error}. Keep them with"
                " argmax_edges(keep_none=True), or choose by top_edges(), which excludes `none`"
            ) from None
        return genotype

    return select


def argmax_options(choices: Choices, weights: Weights) -> list[tuple[int, int]]:
    """Returns (row, column) of the strongest option of every row; of a row without any weight one
    that computes nothing, where it has such."""
    picked = []
    for row, own in enumerate(weights):
        column = max(range(len(own)), key=own.__getitem__)
        empty = not any(weight for weight in own if weight > -math.inf)
        nothing = choices.allowed[row] & choices.is_nothing
        if empty and nothing.any():
            column = int(nothing.argmax())
        picked.append((row, column))
    return picked
