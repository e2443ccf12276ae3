"""All that a search is made of besides its space and what it learns, as one value."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dnas.arch_losses import WeightedLoss
from dnas.base import ArchLoss, Candidates, Perturbation
from dnas.bilevel import BilevelOptimizer, darts_optimizer
from dnas.hw_loss import Constraint
from dnas.relax import Relaxation, softmax
from dnas.rules import Rule
from dnas.selection import Selection, default_selection


class Method(NamedTuple):
    """What a paper says of a search; the defaults are first-order DARTS.

    Example:
      >>> import dnas
      >>> method = Method(dnas.edge_weights(), options={"partial_channels": 4})
      >>> method.single_level, method.rule
      (False, None)
    """

    relaxation: Relaxation = softmax()
    optimizer: Callable[[int, int], BilevelOptimizer] = darts_optimizer  # of (epochs, steps each)
    arch_losses: Sequence[WeightedLoss] = ()
    arch_factors: Sequence[ArchLoss] = ()
    constraint: Constraint | None = None  # targets for costs whose weight is learned
    perturbation: Perturbation | None = None
    single_level: bool = False  # arch learns from the batches of the weights, drawn from all data
    candidates: Candidates | None = None  # {kind: bool [E, O]}, in play at the start; None: all
    rule: Rule | None = None  # runs after every whole epoch
    select: Selection = default_selection  # how the genotype is read
    options: Mapping[str, Any] = MappingProxyType({})  # of the supernet, such as {"sampled": True}
