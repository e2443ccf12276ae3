"""Search spaces, one a file, and the dict SPACES that names them."""

from dnas.spaces.bench_suite import BENCH_SUITE, bench_suite_space
from dnas.spaces.custom import custom_space
from dnas.spaces.darts import DARTS_OPS, darts_space
from dnas.spaces.fbnet import FBNET_OPS, fbnet_space
from dnas.spaces.layerwise import Chain, Stage, layerwise_space
from dnas.spaces.nasbench201 import NASBENCH201_OPS, nasbench201_space
from dnas.spaces.proxylessnas import PROXYLESS_OPS, proxylessnas_space
from dnas.spaces.recurrent import NO_DROPOUT, RECURRENT_OPS, Dropout, recurrent_space
from dnas.spaces.robust_darts import robust_darts_space
from dnas.spaces.sharp_darts import SHARP_OPS

SPACES = {
    "darts": darts_space(),
    # FairDARTS, DrNAS and DARTS-PT search among seven ops.
    "darts_without_none": darts_space(name="darts_without_none", ops=DARTS_OPS[1:]),
    "sharp_darts": darts_space(name="sharp_darts", ops=SHARP_OPS),
    "fbnet": fbnet_space(),
    "proxylessnas": proxylessnas_space(),
    "nasbench201": nasbench201_space(),
    **{name: robust_darts_space(name) for name in ("s1", "s2", "s3", "s4")},
    **{name: bench_suite_space(name) for name in BENCH_SUITE},
    "recurrent": recurrent_space(),
}

__all__ = [
    "BENCH_SUITE",
    "Chain",
    "DARTS_OPS",
    "Dropout",
    "FBNET_OPS",
    "NASBENCH201_OPS",
    "NO_DROPOUT",
    "PROXYLESS_OPS",
    "RECURRENT_OPS",
    "SHARP_OPS",
    "SPACES",
    "Stage",
    "bench_suite_space",
    "custom_space",
    "darts_space",
    "fbnet_space",
    "layerwise_space",
    "nasbench201_space",
    "proxylessnas_space",
    "recurrent_space",
    "robust_darts_space",
]
