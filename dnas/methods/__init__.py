"""Published methods: all that a paper says of a search, as one value. One paper a file."""

from dnas.methods.beta_darts import beta_darts
from dnas.methods.darts import darts1, darts2
from dnas.methods.darts_minus import darts_minus
from dnas.methods.darts_pt import darts_pt
from dnas.methods.drnas import drnas, drnas_progressive
from dnas.methods.fair_darts import fair_darts
from dnas.methods.fbnet import fbnet
from dnas.methods.gaea import gaea
from dnas.methods.gdas import gdas
from dnas.methods.method import (
    Method,
    SearchResult,
    Stage,
    Trials,
    TrialsState,
    every_stage,
    stages_of,
)
from dnas.methods.oles import oles
from dnas.methods.p_darts import p_darts
from dnas.methods.pc_darts import pc_darts
from dnas.methods.proxyless import proxyless
from dnas.methods.published import Published, published
from dnas.methods.random import random
from dnas.methods.random_ws import random_ws
from dnas.methods.rarts import rarts
from dnas.methods.robust_darts import robust_darts
from dnas.methods.sgas import sgas
from dnas.methods.sharp_darts import sharp_darts
from dnas.methods.smooth_darts import smooth_darts_adv, smooth_darts_rs
from dnas.methods.snas import snas
from dnas.methods.supernets import supernet_of
from dnas.methods.trained_neighbours import trained_neighbours
from dnas.methods.training import FAMILIES, Training, alternating, arch_optimizer, weight_optimizer

METHODS: dict[str, Published] = {
    method.name: method
    for method in (
        darts1,
        darts2,
        pc_darts,
        gdas,
        snas,
        drnas,
        drnas_progressive,
        fair_darts,
        smooth_darts_rs,
        smooth_darts_adv,
        beta_darts,
        gaea,
        p_darts,
        sgas,
        robust_darts,
        rarts,
        sharp_darts,
        proxyless,
        fbnet,
        darts_pt,
        oles,
        darts_minus,
        trained_neighbours,
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
    "Trials",
    "TrialsState",
    "alternating",
    "arch_optimizer",
    "beta_darts",
    "darts1",
    "darts2",
    "darts_minus",
    "darts_pt",
    "drnas",
    "drnas_progressive",
    "every_stage",
    "fair_darts",
    "fbnet",
    "gaea",
    "gdas",
    "oles",
    "p_darts",
    "pc_darts",
    "proxyless",
    "published",
    "random",
    "random_ws",
    "rarts",
    "robust_darts",
    "sgas",
    "sharp_darts",
    "smooth_darts_adv",
    "smooth_darts_rs",
    "snas",
    "stages_of",
    "supernet_of",
    "trained_neighbours",
    "weight_optimizer",
]
