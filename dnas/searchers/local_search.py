"""Local search, https://arxiv.org/abs/2005.02960."""

import math
from collections.abc import Generator, Iterable

from dnas.genotype import Genotype
from dnas.searchers.architectures import Picks
from dnas.searchers.searcher import Searcher


def local_search(
    initial: int = 1,
    first_improvement: bool = True,
    *,
    start: Genotype | None = None,
    gain: float = 0.0,
    again: bool = True,
) -> Searcher:
    """Returns the searcher that moves from an architecture to a better neighbour as long as there
    is one, and then starts again from random ones: algorithm 1 of the paper.

    Neighbours are evaluated in random order, none of them twice.

    Args:
      initial: of so many random architectures a start takes the best.
      first_improvement: moves as soon as a neighbour is better, instead of to the best of all.
      start: where the first start is, instead of at random: a good guess, such as the architecture
        with most multiply-adds, or what a search by gradients has found.
      gain: a neighbour is better if its value is higher by more than this, such as the noise of
        values.
      again: whether it starts again where no neighbour is better; it ends there if not.

    Raises:
      ValueError: for no initial architecture, or a gain below 0.
    """
    if initial < 1:
        raise ValueError(f"a start needs at least 1 initial architecture, got {initial}")
    if not gain >= 0:
        raise ValueError(f"a gain is 0 or more, got {gain}")

    def run(architectures, rng):
        known, idle = {}, 0
        given = [] if start is None else [architectures.picks_of(start)]
        while idle < _MOST_IDLE:
            before = len(known)
            starts, given = given or [architectures.sample(rng) for _ in range(initial)], []
            yield from _evaluated(starts, known)
            current = max(starts, key=known.__getitem__)
            while current is not None:
                near = architectures.neighbours(current)
                near = [near[number] for number in rng.permutation(len(near))]
                least = known[current] + gain if first_improvement else math.inf
                new = yield from _evaluated(near, known, until=least)
                best = max(new, key=known.__getitem__, default=current)
                current = best if known[best] > known[current] + gain else None
            idle = idle + 1 if len(known) == before else 0
            if not again:
                return

    return run


_MOST_IDLE = 1000  # starts that meet only what is known: about all is


def _evaluated(
    wanted: Iterable[Picks], known: dict[Picks, float], until: float = math.inf
) -> Generator[Picks, float, list[Picks]]:
    """Evaluates those that are not known, in their order, as far as the first above `until`;
    returns these."""
    new = []
    for picks in wanted:
        if picks not in known:
            known[picks] = yield picks
            new.append(picks)
            if known[picks] > until:
                break
    return new
