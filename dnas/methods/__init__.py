"""Published methods: all that a paper says of a search, as one value. One paper a file."""

from dnas.methods.darts import darts1, darts2
from dnas.methods.darts_minus import darts_minus
from dnas.methods.darts_pt import darts_pt
from dnas.methods.method import Method, SearchResult, Stage, every_stage, stages_of
from dnas.methods.oles import oles
from dnas.methods.p_darts import p_darts
from dnas.methods.pc_darts import pc_darts
from dnas.methods.published import Published, published
from dnas.methods.random import random
from dnas.methods.random_ws import random_ws
from dnas.methods.rarts import rarts
from dnas.methods.robust_darts import robust_darts
from dnas.methods.sgas import sgas
from dnas.methods.sharp_darts import sharp_darts
from dnas.methods.training import FAMILIES, Training, alternating, arch_optimizer, weight_optimizer

METHODS: dict[str, Published] = {
    method.name: method
    for method in (
        darts1,
        darts2,
        pc_darts,
        p_darts,
        sgas,
        robust_darts,
        rarts,
        sharp_darts,
        darts_pt,
        oles,
        darts_minus,
        random,
        random_ws,
    )
}

__all__ = [
    "FAMILIES",
    "METHODS",
    "Method",
    "Published",
    "SearchResult",
    "Stage",
    "Training",
    "alternating",
    "arch_optimizer",
    "darts1",
    "darts2",
    "darts_minus",
    "darts_pt",
    "every_stage",
    "oles",
    "p_darts",
    "pc_darts",
    "published",
    "random",
    "random_ws",
    "rarts",
    "robust_darts",
    "sgas",
    "sharp_darts",
    "stages_of",
    "weight_optimizer",
]
