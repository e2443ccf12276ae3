"""Local search, https://arxiv.org/abs/2005.02960."""

from dnas.searchers.searcher import Searcher


def local_search(initial: int = 1, first_improvement: bool = True) -> Searcher:
    """Returns the searcher that moves from an architecture to a better neighbour as long as there
    is one, and then starts again from random ones: algorithm 1 of the paper.

    Neighbours are evaluated in random order, none of them twice.

    Args:
      initial: of so many random architectures a start takes the best.
      first_improvement: moves as soon as a neighbour is better, instead of to the best of all.

    Raises:
      ValueError: for no initial architecture.
    """
    if initial < 1:
        raise ValueError(f"a start needs at least 1 initial architecture, got {initial}")

    def run(architectures, rng):
        known, idle = {}, 0
        while idle < _MOST_IDLE:
            current, before = None, len(known)
            for _ in range(initial):
                picks = architectures.sample(rng)
                if picks not in known:
                    known[picks] = yield picks
                if current is None or known[picks] > known[current]:
                    current = picks
            while current is not None:
                better, value = None, known[current]
                near = architectures.neighbours(current)
                for number in rng.permutation(len(near)):
                    picks = near[number]
                    if picks in known:
                        continue
                    known[picks] = yield picks
                    if known[picks] > value:
                        better, value = picks, known[picks]
                        if first_improvement:
                            break
                current = better
            idle = idle + 1 if len(known) == before else 0

    return run


_MOST_IDLE = 1000  # starts that meet only what is known: about all is
