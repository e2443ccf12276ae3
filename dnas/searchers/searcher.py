"""What a searcher is, and how one is run: over a table, a supernet, or trainings."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas.genotype import Genotype
from dnas.searchers.architectures import Architectures, Picks
from dnas.space import SearchSpace

# What an architecture is worth: a number of which more is better, or for searchers with several
# objectives one of each.
Value = float | tuple[float, ...]
# A searcher is a generator: it yields the architecture that it wants to know the value of, and is
# sent that value. It ends where it has seen them all, or all that it wants to see.
Searcher = Callable[[Architectures, np.random.Generator], Generator[Picks, Any, None]]


class Evaluation(NamedTuple):
    """An architecture, its value, and what it cost to know: 1, or seconds of training."""

    genotype: Genotype
    value: Value
    cost: float = 1.0


class Search:
    """A searcher on its way: `ask` for an architecture, `tell` its value, as often as there is
    budget. The seed and the values decide everything, so telling a new search what an old one was
    told brings it to where that was. `within` is as `Architectures` takes it.

    Example:
      >>> import dnas
      >>> from dnas.searchers import local_search
      >>> search = Search(dnas.SPACES["nasbench201"], local_search(), seed=0)
      >>> for _ in range(100):
      ...     search.tell(search.ask().count("nor_conv_3x3")["cell"])
      >>> search.best.value
      6.0
    """

    def __init__(
        self,
        space: SearchSpace,
        searcher: Searcher,
        seed: int = 0,
        *,
        within: Callable[[Genotype], Genotype] | None = None,
    ):
        self._architectures = Architectures(space, within)
        self._run = searcher(self._architectures, np.random.default_rng(seed))
        self._next: Picks | None = next(self._run, None)
        self.history: list[Evaluation] = []

    @property
    def ended(self) -> bool:
        """Whether the searcher wants to know no more."""
        return self._next is None

    def ask(self) -> Genotype:
        """Returns the architecture whose value is wanted next, the same until that is told.

        Raises:
          StopIteration: if the searcher has seen all of the space, or all that it wants to see.
        """
        if self._next is None:
            raise StopIteration("the searcher has seen all architectures that it wants to see")
        return self._architectures.genotype_of(self._next)

    def tell(self, value: Value, cost: float = 1.0) -> None:
        """Tells the value of the architecture that was asked for.

        Raises:
          ValueError: for a value that is no finite number, or several.
        """
        if not np.isfinite(value).all():
            raise ValueError(f"the value of an architecture is a finite number, got {value}")
        value = tuple(map(float, value)) if isinstance(value, tuple) else float(value)
        self.history.append(Evaluation(self.ask(), value, float(cost)))
        try:
            self._next = self._run.send(value)
        except StopIteration:
            self._next = None

    @property
    def best(self) -> Evaluation:
        """The first of the highest value so far; of several objectives the first decides."""
        return max(self.history, key=_value)


def run_searcher(
    space: SearchSpace,
    searcher: Searcher,
    evaluate: Callable[[Genotype], Value],
    *,
    budget: float,
    cost: Callable[[Genotype], float] = lambda genotype: 1.0,
    seed: int = 0,
    history: Iterable[Evaluation] = (),
) -> list[Evaluation]:
    """Returns what a searcher has evaluated with a budget, in order.

    Args:
      evaluate: returns the value of a genotype: what a table says, the accuracy of a supernet at
        its `one_hot_mix`, or of its network after a training.
      budget: of the costs. An architecture that would exceed it is not evaluated, and the search
        ends there.
      cost: what it takes to evaluate one, such as seconds.
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
        spent += cost(genotype)
        if spent > budget:
            break
        search.tell(evaluate(genotype), cost(genotype))
    return search.history


def incumbents(history: Sequence[Evaluation]) -> list[Genotype]:
    """Returns the best of the first n evaluations, for every n from 1 on."""
    return [
        best.genotype for best in itertools.accumulate(history, lambda a, b: max(a, b, key=_value))
    ]


def front(history: Sequence[Evaluation]) -> list[Evaluation]:
    """Returns those that no other beats in one objective without being worse in another, of equal
    ones the first, sorted by the first objective."""
    values = np.array([np.atleast_1d(evaluation.value) for evaluation in history])
    kept: dict[Value, Evaluation] = {}
    for number in next(fronts(values), ()):
        kept.setdefault(history[number].value, history[number])
    return sorted(kept.values(), key=_value)


def fronts(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the numbers of the rows of values [N, K] that no other beats in one column without
    being worse in another; then of those that only these beat; and so on.

    Example:
      >>> [own.tolist() for own in fronts(np.array([[1, 3], [1, 1], [3, 1], [0, 3], [1, 3]]))]
      [[0, 2, 4], [1, 3]]
    """
    left = np.arange(len(values))
    while left.size:
        rows = values[left]
        beaten = [((rows >= own).all(axis=-1) & (rows > own).any(axis=-1)).any() for own in rows]
        yield left[~np.array(beaten)]
        left = left[beaten]


def _value(evaluation: Evaluation) -> Value:
    return evaluation.value
