"""The architectures of a space as searchers see them: columns of rows, and what is next to one."""

from collections.abc import Callable, Iterator

import numpy as np

from dnas.genotype import Genotype
from dnas.space import SearchSpace, genotype_of, picked_of

# Of every row of every kind, one after the other, the column of its option; -1 for a row that the
# genotype does without.
Picks = tuple[int, ...]
DROPPED = -1


class Architectures:
    """All genotypes of a space: one at random, the neighbours of one, and back and forth.

    Where groups of rows keep some of their rows (the edges into a node of DARTS), these have an
    option that computes something. Genotypes that compute the same by other options count as
    different, as in the published searches.

    Args:
      within: what a genotype becomes that is not to be evaluated itself, such as one that exceeds
        limits on costs; others stay as they are. Samples and neighbours are what it returns.

    Example:
      >>> import numpy as np
      >>> import dnas
      >>> cells = Architectures(dnas.SPACES["nasbench201"])
      >>> picks = cells.sample(np.random.default_rng(0))
      >>> len(cells.neighbours(picks)), cells.picks_of(cells.genotype_of(picks)) == picks
      (24, True)
    """

    def __init__(self, space: SearchSpace, within: Callable[[Genotype], Genotype] | None = None):
        self.space, self._within = space, within
        self._start: dict[str, int] = {}  # the first row of a kind
        self._columns: list[tuple[int, ...]] = []  # of each row, where it is kept
        self._groups: list[tuple[tuple[int, ...], int]] = []  # rows that compete, how many are kept
        for kind, choices in space.choices.items():
            start = self._start[kind] = len(self._columns)
            for row, dropped in enumerate(choices.may_be_dropped):
                may = choices.computes[row] if dropped else choices.allowed[row]
                self._columns.append(tuple(np.flatnonzero(may).tolist()))
            for group in choices.together:
                if choices.places(group) < len(group):
                    rows = tuple(start + row for row in group)
                    self._groups.append((rows, choices.places(group)))

    def sample(self, rng: np.random.Generator) -> Picks:
        """Returns one at random, all that keep as many rows alike likely."""
        picks = [own[rng.integers(len(own))] for own in self._columns]
        for rows, places in self._groups:
            for place in rng.permutation(len(rows))[places:]:
                picks[rows[place]] = DROPPED
        return self._brought(tuple(picks))

    def neighbours(self, picks: Picks) -> list[Picks]:
        """Returns all that one exchange leads to: of the option of a row that is kept, or of the
        row for another of its group, with its option, or any where that may not have it."""
        found = []
        for row, own in enumerate(self._columns):
            if picks[row] != DROPPED:
                found += [_with(picks, {row: to}) for to in own if to != picks[row]]
        for rows, _ in self._groups:
            kept = [row for row in rows if picks[row] != DROPPED]
            for new in (row for row in rows if picks[row] == DROPPED):
                own = self._columns[new]
                for old in kept:
                    options = (picks[old],) if picks[old] in own else own
                    found += [_with(picks, {old: DROPPED, new: to}) for to in options]
        if self._within is None:
            return found
        brought = dict.fromkeys(self._brought(own) for own in found)
        return [own for own in brought if own != picks]

    def mutate(self, rng: np.random.Generator, picks: Picks) -> Picks:
        """Returns one of the neighbours at random."""
        near = self.neighbours(picks)
        return near[rng.integers(len(near))]

    def all(self) -> Iterator[Picks]:
        """Yields every one, for small spaces."""
        for picks in self._completed((), {rows: places for rows, places in self._groups}):
            if self._brought(picks) == picks:
                yield picks

    def _brought(self, picks: Picks) -> Picks:
        if self._within is None:
            return picks
        return self.picks_of(self._within(self.genotype_of(picks)))

    def _completed(self, picks: Picks, groups: dict) -> Iterator[Picks]:
        if len(picks) == len(self._columns):
            kept = [sum(picks[row] != DROPPED for row in rows) for rows in groups]
            if kept == list(groups.values()):
                yield picks
            return
        competing = any(len(picks) in rows for rows in groups)
        for column in (*self._columns[len(picks)], *((DROPPED,) if competing else ())):
            yield from self._completed((*picks, column), groups)

    def genotype_of(self, picks: Picks) -> Genotype:
        """Returns the genotype with these options."""
        picked = {}
        for kind, choices in self.space.choices.items():
            start = self._start[kind]
            own = enumerate(picks[start : start + len(choices.rows)])
            picked[kind] = [(row, column) for row, column in own if column != DROPPED]
        return genotype_of(self.space, picked)

    def picks_of(self, genotype: Genotype) -> Picks:
        """Returns the options of a genotype.

        Raises:
          ValueError: if it does not fit the space.
        """
        picks = [DROPPED] * len(self._columns)
        for kind, own in picked_of(self.space, genotype).items():
            for row, column in own:
                picks[self._start[kind] + row] = column
        return tuple(picks)

    @property
    def columns(self) -> list[tuple[int, ...]]:
        """Of every row the columns that it may have where it is kept."""
        return self._columns

    @property
    def groups(self) -> list[tuple[tuple[int, ...], int]]:
        """The rows that compete with each other, and how many of them are kept."""
        return self._groups


def _with(picks: Picks, changes: dict[int, int]) -> Picks:
    new = list(picks)
    for row, column in changes.items():
        new[row] = column
    return tuple(new)
