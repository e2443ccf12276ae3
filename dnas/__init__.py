"""dnas: differentiable architecture search (the DARTS family) in JAX."""

from dnas import cells, contracts, hw_loss, relax
from dnas.base import Batch
from dnas.bilevel import BilevelOptimizer, alternating, arch_adam, cosine_by_epoch, darts_optimizer, first_order, sgd
from dnas.cells import OPS, SPACES, darts_space, inherit_weights
from dnas.data import Augmentation, plain_augmentation
from dnas.genotype import Edge, Genotype
from dnas.hw_loss import Counts, count_network, count_supernet
from dnas.loop import Progress
from dnas.published import PUBLISHED
from dnas.relax import RELAXATIONS, Relaxation, softmax
from dnas.retrain import RetrainResult, RetrainState, final_sgd, make_evaluation, retrain
from dnas.search import Search, SearchResult, SearchState, make_search, run_search
from dnas.selection import Selection, random_genotype, top_edges
from dnas.space import CellSpec, LayerSpec, Network, SearchSpace, Supernet, check_genotype, one_hot_mix

__all__ = [
    "Augmentation",
    "Batch",
    "BilevelOptimizer",
    "CellSpec",
    "Counts",
    "Edge",
    "Genotype",
    "LayerSpec",
    "Network",
    "OPS",
    "PUBLISHED",
    "Progress",
    "RELAXATIONS",
    "Relaxation",
    "RetrainResult",
    "RetrainState",
    "SPACES",
    "Search",
    "SearchResult",
    "SearchSpace",
    "SearchState",
    "Selection",
    "Supernet",
    "alternating",
    "arch_adam",
    "cells",
    "check_genotype",
    "contracts",
    "cosine_by_epoch",
    "count_network",
    "count_supernet",
    "darts_optimizer",
    "darts_space",
    "final_sgd",
    "first_order",
    "hw_loss",
    "inherit_weights",
    "make_evaluation",
    "make_search",
    "one_hot_mix",
    "plain_augmentation",
    "random_genotype",
    "relax",
    "retrain",
    "run_search",
    "sgd",
    "softmax",
    "top_edges",
]
