"""What a searcher is, and how one is run: over a table, a supernet, or trainings."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dnas.genotype import Genotype
from dnas.searchers.architectures import Architectures, Picks
from dnas.space import SearchSpace

# A searcher is a generator: it yields the architecture that it wants to know the value of, and is
# sent that value, of which more is better. It never ends by itself, but where it has seen them all.
Searcher = Callable[[Architectures, np.random.Generator], Generator[Picks, float, None]]


class Evaluation(NamedTuple):
    """An architecture, its value, of which more is better, and what it cost to know: 1, or seconds
    of training."""

    genotype: Genotype
    value: float
    cost: float = 1.0


class Search:
    """A searcher on its way: `ask` for an architecture, `tell` its value, as often as there is
    budget. The seed and the values decide everything, so telling a new search what an old one was
    told brings it to where that was.

    Example:
      >>> import dnas
      >>> from dnas.searchers import local_search
      >>> search = Search(dnas.SPACES["nasbench201"], local_search(), seed=0)
      >>> for _ in range(100):
      ...     search.tell(search.ask().count("nor_conv_3x3")["cell"])
      >>> search.best.value
      6.0
    """

    def __init__(self, space: SearchSpace, searcher: Searcher, seed: int = 0):
        self._architectures = Architectures(space)
        self._run = searcher(self._architectures, np.random.default_rng(seed))
        self._next: Picks | None = next(self._run, None)
        self.history: list[Evaluation] = []

    def ask(self) -> Genotype:
        """Returns the architecture whose value is wanted next, the same until that is told.

        Raises:
          StopIteration: if the searcher has seen all of the space.
        """
        if self._next is None:
            raise StopIteration("the searcher has seen all architectures of the space")
        return self._architectures.genotype_of(self._next)

    def tell(self, value: float, cost: float = 1.0) -> None:
        """Tells the value of the architecture that was asked for, of which more is better.

        Raises:
          ValueError: for a value that is no finite number.
        """
        if not np.isfinite(value):
            raise ValueError(f"the value of an architecture is a finite number, got {value}")
        self.history.append(Evaluation(self.ask(), float(value), float(cost)))
        try:
            self._next = self._run.send(float(value))
        except StopIteration:
            self._next = None

    @property
    def best(self) -> Evaluation:
        """The first of the highest value so far."""
        return max(self.history, key=lambda evaluation: evaluation.value)


def run_searcher(
    space: SearchSpace,
    searcher: Searcher,
    evaluate: Callable[[Genotype], float | tuple[float, float]],
    *,
    budget: float,
    seed: int = 0,
    history: Iterable[Evaluation] = (),
) -> list[Evaluation]:
    """Returns what a searcher has evaluated with a budget, in order.

    Args:
      evaluate: the value of a genotype, of which more is better, or (value, cost).
      budget: of the costs, which are 1 each unless told. An architecture that would exceed it is
        not counted, but the search ends there.
      history: what an interrupted search of the same seed has evaluated; it is told instead of
        evaluated again.

    Raises:
      ValueError: if the history is that of another search.
    """
    search, spent = Search(space, searcher, seed), 0.0
    for number, evaluation in enumerate(history):
        if evaluation.genotype != search.ask():
            raise ValueError(
                f"evaluation {number} of the history is of {evaluation.genotype}, but this search"
                f" asks for {search.ask()}: give the seed, the searcher and the space of the"
                " history, or none"
            )
        search.tell(evaluation.value, evaluation.cost)
        spent += evaluation.cost
    while spent < budget:
        try:
            genotype = search.ask()
        except StopIteration:
            break
        found = evaluate(genotype)
        value, cost = found if isinstance(found, tuple) else (found, 1.0)
        spent += cost
        if spent > budget:
            break
        search.tell(value, cost)
    return search.history


def incumbents(history: Sequence[Evaluation]) -> list[Genotype]:
    """Returns the best of the first n evaluations, for every n from 1 on."""
    found: list[Genotype] = []
    value = -np.inf
    for evaluation in history:
        if evaluation.value > value:
            genotype, value = evaluation.genotype, evaluation.value
        found.append(genotype)
    return found
