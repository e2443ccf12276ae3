"""Relaxations: from arch to mix. One paper a file."""

from dnas.relax.auxiliary_skip import auxiliary_skip
from dnas.relax.dirichlet import dirichlet
from dnas.relax.drop_edges import drop_edges
from dnas.relax.drop_ops import drop_ops
from dnas.relax.edge_weights import edge_weights, simplex_edge_weights
from dnas.relax.gumbel import gumbel_hard, gumbel_softmax
from dnas.relax.max_w import max_w
from dnas.relax.per_sample import per_sample
from dnas.relax.perturbation import (
    Perturbation,
    adversarial_perturbation,
    perturbation_radius,
    random_perturbation,
)
from dnas.relax.prior import with_prior
from dnas.relax.proxyless import binary_gates, keep_pair_mass
from dnas.relax.relaxation import Relaxation, read_mix
from dnas.relax.sigmoid import sigmoid
from dnas.relax.simplex import exponentiated_gradient, simplex
from dnas.relax.softmax import softmax
from dnas.relax.sparsemax import sparsemax
from dnas.relax.temperature import exponential_temperature, linear_temperature
from dnas.relax.uniform_genotypes import uniform_genotypes

# Each entry makes a relaxation with the paper's defaults.
RELAXATIONS = {
    "softmax": softmax,
    "gumbel_softmax": gumbel_softmax,
    "gumbel_hard": gumbel_hard,
    "dirichlet": dirichlet,
    "sigmoid": sigmoid,
    "sparsemax": sparsemax,
    "binary_gates": binary_gates,
    "simplex": simplex,
    "edge_weights": edge_weights,
    "max_w": max_w,
}

__all__ = [
    "Perturbation",
    "RELAXATIONS",
    "Relaxation",
    "adversarial_perturbation",
    "auxiliary_skip",
    "binary_gates",
    "dirichlet",
    "drop_edges",
    "drop_ops",
    "edge_weights",
    "exponential_temperature",
    "exponentiated_gradient",
    "gumbel_hard",
    "gumbel_softmax",
    "keep_pair_mass",
    "linear_temperature",
    "max_w",
    "per_sample",
    "perturbation_radius",
    "random_perturbation",
    "read_mix",
    "sigmoid",
    "simplex",
    "simplex_edge_weights",
    "softmax",
    "sparsemax",
    "uniform_genotypes",
    "with_prior",
]
