"""Random search. https://arxiv.org/abs/1902.07638"""

from dnas.searchers.searcher import Searcher


def random_search() -> Searcher:
    """Returns the searcher that draws architectures uniformly, none of them twice."""

    def run(architectures, rng):
        seen = set()
        while True:
            picks = architectures.sample(rng)
            tries = 0
            while picks in seen and tries < _TRIES:
                picks, tries = architectures.sample(rng), tries + 1
            if picks in seen:  # about all have been
                return
            seen.add(picks)
            yield picks

    return run


_TRIES = 10_000
