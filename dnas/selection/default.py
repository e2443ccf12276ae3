"""The selection that the papers of a space use."""

from dnas.base import Mix
from dnas.choices import Choices
from dnas.genotype import Genotype
from dnas.selection.argmax_edges import argmax_options
from dnas.selection.selection import Weights, genotype_by
from dnas.selection.top_edges import top_options
from dnas.space import SearchSpace


def default_selection(space: SearchSpace, mix: Mix) -> Genotype:
    """Returns the genotype by the usual rule of each kind: that of `top_edges(k)` where nodes keep
    k edges, else that of `argmax_edges`.

    Raises:
      ValueError: if the mix does not fit the space or holds a NaN.

    Example:
      >>> import dnas, numpy as np
      >>> space, mix = (
      ...     dnas.SPACES["darts"],
      ...     {kind: np.ones((14, 8)) for kind in dnas.SPACES["darts"].cells},
      ... )
      >>> default_selection(space, mix) == dnas.top_edges(2)(space, mix)
      True
    """

    def read(kind: str, choices: Choices, weights: Weights) -> list[tuple[int, int]]:
        if choices.keep is None:
            return argmax_options(choices, weights)
        return top_options(kind, choices, weights, choices.keep)

    return genotype_by(space, mix, read)
