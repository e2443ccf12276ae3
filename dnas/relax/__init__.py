"""Relaxations: from arch to mix. One paper a file."""

from dnas.relax.relaxation import Relaxation
from dnas.relax.softmax import softmax

# Each entry makes a relaxation with the paper's defaults.
RELAXATIONS = {"softmax": softmax}

__all__ = ["RELAXATIONS", "Relaxation", "softmax"]
