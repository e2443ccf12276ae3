"""All that a search is made of besides its space and what it learns, as one value."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dnas.arch_losses import WeightedLoss
from dnas.base import ArchLoss, Candidates, Mix, Perturbation
from dnas.bilevel import BilevelOptimizer, darts_optimizer
from dnas.genotype import Genotype
from dnas.hw_loss import Constraint
from dnas.methods.training import Training
from dnas.relax import Relaxation, softmax
from dnas.rules import Rule
from dnas.search import SearchState
from dnas.selection import Selection, default_selection


class SearchResult(NamedTuple):
    """What a search, or a stage of one, has found."""

    genotype: Genotype
    mix: Mix  # {kind: [E, O]}, what the genotype was read from
    state: SearchState
    history: list[dict[str, Any]]  # a row an epoch that this call has run


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
    # the length, the batch and the sizes that it was made for; None: as `run_search` is told
    training: Training | None = None
    stages: "Sequence[Stage]" = ()  # searches that follow, each from what the one before has found


class Stage(NamedTuple):
    """A search that begins with what the one before it has found."""

    method: Method
    # of the result of the stage before: the ops in play
    candidates: Callable[[SearchResult], Candidates] | None = None
    # (first state, result of the stage before) -> what the stage begins with
    begin: Callable[[SearchState, SearchResult], SearchState] | None = None


def stages_of(method: Method) -> list[Stage]:
    """Returns the method as its first stage, and those that follow."""
    return [Stage(method._replace(stages=())), *method.stages]


def every_stage(method: Method, change: Callable[[Method], Method]) -> Method:
    """Returns the method with every one of its stages changed alike."""
    later = [stage._replace(method=change(stage.method)) for stage in method.stages]
    return change(method)._replace(stages=later)
