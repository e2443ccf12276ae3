"""All that a search is made of besides its space and what it learns, as one value."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import optax

from dnas.arch_losses import WeightedLoss
from dnas.base import AnyArray, ArchLoss, Candidates, Mix, Perturbation
from dnas.baselines import most_macs
from dnas.bilevel import BilevelOptimizer, darts_optimizer
from dnas.genotype import Genotype
from dnas.hw_loss import Constraint, Limits
from dnas.methods.training import Training
from dnas.relax import Relaxation, softmax
from dnas.rules import Rule
from dnas.search import SearchState
from dnas.searchers import Evaluation, Searcher, incumbents
from dnas.selection import Selection, default_selection
from dnas.space import SearchSpace


class SearchResult(NamedTuple):
    """What a search, or a stage of one, has found."""

    genotype: Genotype
    mix: Mix  # {kind: [E, O]}, what the genotype was read from
    state: Any  # a `SearchState`, or where there were trials a `TrialsState`
    history: list[dict[str, Any]]  # a row an epoch, or a trial, that this call has run


def best_of(history: Sequence[Evaluation], noise: float) -> Genotype:
    """Returns the first of the highest value."""
    del noise
    return incumbents(history)[-1]


class Trials(NamedTuple):
    """A search by short trainings from scratch, `dnas.short_training`, in place of gradients: of
    architectures that a searcher asks for, which begins at what the stage before has found."""

    # of the genotype that it begins at, and of the deviation of its value between seeds
    searcher: Callable[[Genotype, float], Searcher]
    optimizer: Callable[[int, int], optax.GradientTransformation]  # of (epochs, steps each)
    number: int = 100  # of trials
    epochs: int = 2  # of a trial, whose value is minus the mean loss of the last of them
    steps: int = 50  # of such an epoch
    repeats: int = 0  # trials of the first genotype with other seeds, for that deviation
    # of all that was trained with the seed of the run, and of that deviation: which is taken
    choose: Callable[[Sequence[Evaluation], float], Genotype] = best_of
    # where it begins if no stage was before, of the space and the limits
    start: Callable[[SearchSpace, Limits], Genotype] = most_macs
    limits: Limits = ()  # (cost, bound): all that is trained is within them


class TrialsState(NamedTuple):
    """All that changes in a search by trials: a searcher that is told these values again is where
    it was."""

    step: AnyArray  # []: trials done
    values: AnyArray  # [number of trials] float32, NaN for those to come


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
    trials: Trials | None = None  # in place of all that is above but options and training
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
