"""Published methods: all that a paper says of a search, as one value. One paper a file."""

from dnas.methods.darts import darts1, darts2
from dnas.methods.method import Method, SearchResult, Stage, every_stage, stages_of
from dnas.methods.p_darts import p_darts
from dnas.methods.pc_darts import pc_darts
from dnas.methods.published import Published, published
from dnas.methods.random import random
from dnas.methods.training import FAMILIES, Training, alternating, arch_optimizer, weight_optimizer

METHODS: dict[str, Published] = {
    method.name: method for method in (darts1, darts2, pc_darts, p_darts, random)
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
    "every_stage",
    "p_darts",
    "pc_darts",
    "published",
    "random",
    "stages_of",
    "weight_optimizer",
]
