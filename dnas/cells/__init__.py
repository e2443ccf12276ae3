"""Everything that is flax: ops, mixed ops, cells, macro networks, and the search spaces made of them."""

from dnas.cells.darts import DARTS_OPS, darts_space, inherit_weights
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS

SPACES = {"darts": darts_space()}

__all__ = ["DARTS_OPS", "Norms", "OPS", "SPACES", "darts_space", "final_norms", "inherit_weights", "search_norms"]
