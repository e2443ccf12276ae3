"""How a discrete genotype is read off a mix. One rule a file."""

from dnas.selection.strongest_ops import strongest_ops
from dnas.selection.top_edges import Selection, random_genotype, top_edges

__all__ = ["Selection", "random_genotype", "strongest_ops", "top_edges"]
