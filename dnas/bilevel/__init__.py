"""How the two levels are optimised: pairs (init, update). One method a file."""

from dnas.bilevel.alternating import alternating, first_order
from dnas.bilevel.implicit import Solver, conjugate_gradient, implicit, neumann
from dnas.bilevel.op_stopping import op_stopping
from dnas.bilevel.optimizer import ArchGradient, BilevelOptimizer
from dnas.bilevel.optimizers import arch_adam, darts_optimizer, recurrent_optimizer, sgd
from dnas.bilevel.rarts import rarts
from dnas.bilevel.schedules import (
    cosine_by_epoch,
    cosine_power_annealing,
    exponential_by_epoch,
)
from dnas.bilevel.single_level import single_level
from dnas.bilevel.unrolled import finite_differences, unrolled

__all__ = [
    "alternating",
    "arch_adam",
    "ArchGradient",
    "BilevelOptimizer",
    "conjugate_gradient",
    "cosine_by_epoch",
    "exponential_by_epoch",
    "cosine_power_annealing",
    "darts_optimizer",
    "finite_differences",
    "first_order",
    "implicit",
    "neumann",
    "op_stopping",
    "rarts",
    "recurrent_optimizer",
    "sgd",
    "single_level",
    "Solver",
    "unrolled",
]
