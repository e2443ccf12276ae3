"""Everything that is flax: ops, mixed ops, cells, macro networks, and the search spaces made of
them."""

from dnas.cells.custom import custom_space
from dnas.cells.darts import DARTS_OPS, darts_space
from dnas.cells.fbnet import FBNET_OPS, fbnet_space
from dnas.cells.layerwise import Chain, Stage, layerwise_space
from dnas.cells.mbconv import BLOCKS
from dnas.cells.nasbench201 import NASBENCH201_OPS, nasbench201_space
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS
from dnas.cells.proxylessnas import PROXYLESS_OPS, proxylessnas_space
from dnas.cells.recurrent import NO_DROPOUT, RECURRENT_OPS, Dropout, recurrent_space
from dnas.cells.robust_darts import robust_darts_space
from dnas.cells.sharp_darts import SHARP_OPS
from dnas.cells.standard import standard_ops
from dnas.cells.widen import widen_weights

SPACES = {
    "darts": darts_space(),
    # FairDARTS, DrNAS and DARTS-PT search among seven ops.
    "darts_without_none": darts_space(name="darts_without_none", ops=DARTS_OPS[1:]),
    "sharp_darts": darts_space(name="sharp_darts", ops=SHARP_OPS),
    "fbnet": fbnet_space(),
    "proxylessnas": proxylessnas_space(),
    "nasbench201": nasbench201_space(),
    **{name: robust_darts_space(name) for name in ("s1", "s2", "s3", "s4")},
    "recurrent": recurrent_space(),
}

__all__ = [
    "BLOCKS",
    "Chain",
    "DARTS_OPS",
    "Dropout",
    "FBNET_OPS",
    "NASBENCH201_OPS",
    "NO_DROPOUT",
    "Norms",
    "OPS",
    "PROXYLESS_OPS",
    "RECURRENT_OPS",
    "SHARP_OPS",
    "SPACES",
    "Stage",
    "custom_space",
    "darts_space",
    "fbnet_space",
    "final_norms",
    "layerwise_space",
    "nasbench201_space",
    "proxylessnas_space",
    "recurrent_space",
    "robust_darts_space",
    "search_norms",
    "standard_ops",
    "widen_weights",
]
