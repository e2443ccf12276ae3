"""How the two levels are optimised: pairs (init, update). One method a file."""

from dnas.bilevel.alternating import (
    ArchGradient,
    BilevelOptimizer,
    alternating,
    arch_adam,
    cosine_by_epoch,
    darts_optimizer,
    first_order,
    sgd,
)

__all__ = [
    "ArchGradient",
    "BilevelOptimizer",
    "alternating",
    "arch_adam",
    "cosine_by_epoch",
    "darts_optimizer",
    "first_order",
    "sgd",
]
