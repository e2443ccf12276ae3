"""Everything that is flax: ops, mixed ops, cells, macro networks, and the search spaces made of them."""

from dnas.cells.darts import DARTS_OPS, darts_space
from dnas.cells.nasbench201 import NASBENCH201_OPS, nasbench201_space
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS
from dnas.cells.robust_darts import robust_darts_space
from dnas.cells.sharp_darts import SHARP_OPS
from dnas.cells.widen import widen_weights

SPACES = {
    "darts": darts_space(),
    # FairDARTS, DrNAS and DARTS-PT search among seven ops.
    "darts_without_none": darts_space(name="darts_without_none", ops=DARTS_OPS[1:]),
    "sharp_darts": darts_space(name="sharp_darts", ops=SHARP_OPS),
    "nasbench201": nasbench201_space(),
    **{name: robust_darts_space(name) for name in ("s1", "s2", "s3", "s4")},
}

__all__ = [
    "DARTS_OPS",
    "NASBENCH201_OPS",
    "Norms",
    "OPS",
    "SHARP_OPS",
    "SPACES",
    "darts_space",
    "final_norms",
    "nasbench201_space",
    "robust_darts_space",
    "search_norms",
    "widen_weights",
]
