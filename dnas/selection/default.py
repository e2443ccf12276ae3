"""The selection that the papers of a space use."""

from dnas.base import Mix
from dnas.genotype import Genotype
from dnas.selection.argmax_edges import argmax_edges
from dnas.selection.top_edges import top_edges
from dnas.space import SearchSpace


def default_selection(space: SearchSpace, mix: Mix) -> Genotype:
    """Returns the genotype by the usual rule of the space: `top_edges(k)` where its nodes keep k
    edges, else `argmax_edges`.

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
    rule = argmax_edges() if space.edges_per_node is None else top_edges(space.edges_per_node)
    return rule(space, mix)
