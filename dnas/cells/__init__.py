"""Everything that is flax: ops, mixed ops, cells, and the networks around them."""

from dnas.cells.mbconv import BLOCKS
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS, Op
from dnas.cells.widen import repeat_channels, widen_weights

__all__ = [
    "BLOCKS",
    "Norms",
    "OPS",
    "Op",
    "final_norms",
    "search_norms",
    "repeat_channels",
    "widen_weights",
]
