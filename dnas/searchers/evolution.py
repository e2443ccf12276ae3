"""Regularised evolution, https://arxiv.org/abs/1802.01548."""

import collections

from dnas.searchers.searcher import Searcher


def regularized_evolution(population: int = 10, sample: int = 3) -> Searcher:
    """Returns the searcher that mutates the best of a few drawn members of a population, of which
    the oldest leaves: algorithm 1 of the paper.

    The defaults are those of NAS-Bench-201's searches; AmoebaNet has 100 and 25. Members are drawn
    with replacement, as in the released code of the tabular benchmarks
    (automl/nas_benchmarks, run_regularized_evolution.py). Each mutation is evaluated, also where
    its architecture is known.

    Raises:
      ValueError: for a population or a sample of less than one.
    """
    if min(population, sample) < 1:
        raise ValueError(
            f"population and sample are numbers of at least 1, got {population} and {sample}"
        )

    def run(architectures, rng):
        members = collections.deque(maxlen=population)
        for _ in range(population):
            picks = architectures.sample(rng)
            members.append(((yield picks), picks))
        while True:
            drawn = [members[number] for number in rng.integers(population, size=sample)]
            _, parent = max(drawn, key=lambda member: member[0])
            child = architectures.mutate(rng, parent)
            members.append(((yield child), child))

    return run
