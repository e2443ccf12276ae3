"""The rule of GDAS's released code: the strongest pairs of an edge and an op of each node.
https://arxiv.org/abs/1910.04465"""

from dnas.base import Mix
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.selection.argmax_edges import argmax_options
from dnas.selection.selection import Selection, Weights, best_options, genotype_by
from dnas.space import SearchSpace


def top_pairs() -> Selection:
    """Returns the rule by which each node keeps as many pairs (edge, op) as the space keeps edges,
    those that weigh most, `none` excluded: two of them may be two ops of one edge.

    The search of GDAS in the space of NASNet and DARTS, released code; the paper,
    https://arxiv.org/abs/1910.04465, has the rule of DARTS, `top_edges`. On ties the earlier edge
    and the earlier op win. Where every edge keeps an op it is the rule of `argmax_edges`.

    Raises:
      ValueError: on selection if the mix does not fit the space or holds a NaN.

    Example:
      >>> import dnas, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> mix = {kind: np.full((14, 8), 1 / 8) for kind in space.cells}
      >>> top_pairs()(space, mix).cells["normal"][:2]
      (Edge(source=0, target=2, op='max_pool_3x3'), Edge(source=0, target=2, op='avg_pool_3x3'))
    """

    def read(kind: str, choices: Choices, weights: Weights) -> list[tuple[int, int]]:
        del kind
        if choices.keep is None:
            return argmax_options(choices, weights)
        best = best_options(choices, weights)
        picked = []
        for group in choices.together:
            if group not in choices.groups:
                picked += [(row, best[row][1]) for row in group]
                continue
            pairs = [
                (row, column)
                for row in group
                for column, computes in enumerate(choices.computes[row])
                if computes
            ]
            pairs.sort(key=lambda pair: -weights[pair[0]][pair[1]])
            picked += pairs[: choices.keep]
        return picked

    def select(space: SearchSpace, mix: Mix) -> Genotype:
        return genotype_by(space, mix, read)

    return select
