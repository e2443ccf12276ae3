"""How a discrete genotype is read off a mix. One rule a file."""

from dnas.selection.argmax_edges import argmax_edges
from dnas.selection.best_of_samples import best_of_samples, sample_genotype
from dnas.selection.default import default_selection
from dnas.selection.random import random_genotype
from dnas.selection.selection import Selection
from dnas.selection.skip_budget import skip_budget
from dnas.selection.strongest_ops import strongest_ops
from dnas.selection.threshold import threshold
from dnas.selection.top_edges import top_edges
from dnas.selection.top_pairs import top_pairs

# Each entry makes a selection with the paper's defaults.
SELECTIONS = {
    "argmax_edges": argmax_edges,
    "default": lambda: default_selection,
    "skip_budget": skip_budget,
    "threshold": threshold,
    "top_edges": top_edges,
    "top_pairs": top_pairs,
}

__all__ = [
    "SELECTIONS",
    "Selection",
    "argmax_edges",
    "best_of_samples",
    "default_selection",
    "random_genotype",
    "sample_genotype",
    "skip_budget",
    "strongest_ops",
    "threshold",
    "top_edges",
    "top_pairs",
]
