"""Everything that is flax: ops, mixed ops, cells, macro networks, and the search spaces made of them."""

from dnas.cells.darts import DARTS_OPS, darts_space
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS
from dnas.cells.recurrent import NO_DROPOUT, RECURRENT_OPS, Dropout, recurrent_space
from dnas.cells.sharp_darts import SHARP_OPS
from dnas.cells.widen import widen_weights

SPACES = {
    "darts": darts_space(),
    # FairDARTS, DrNAS and DARTS-PT search among seven ops.
    "darts_without_none": darts_space(name="darts_without_none", ops=DARTS_OPS[1:]),
    "sharp_darts": darts_space(name="sharp_darts", ops=SHARP_OPS),
    "recurrent": recurrent_space(),
}

__all__ = [
    "DARTS_OPS",
    "Dropout",
    "NO_DROPOUT",
    "Norms",
    "OPS",
    "RECURRENT_OPS",
    "SHARP_OPS",
    "SPACES",
    "darts_space",
    "final_norms",
    "recurrent_space",
    "search_norms",
    "widen_weights",
]
