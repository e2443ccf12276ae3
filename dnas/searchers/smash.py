"""How SMASH searches once its shared weights are trained, https://arxiv.org/abs/1708.05344."""

import numpy as np

from dnas.searchers.architectures import DROPPED, Architectures, Picks
from dnas.searchers.searcher import Searcher


def smash_search(
    initial: int = 500, perturbations: int = 100, probability: float = 0.05
) -> Searcher:
    """Returns the searcher that draws architectures, then changes the best of them a little, each
    time anew, and from then on whatever is best so far: evaluate.py of the release, whose
    third part is 100 long.

    Args:
      initial: how many are drawn.
      perturbations: changes of the best of these.
      probability: that a decision is exchanged, at least one in each change.

    Raises:
      ValueError: for no initial architecture, or what is no probability.

    Differs from the release: it may evaluate an architecture again when nothing has changed.
    """
    if initial < 1 or perturbations < 0 or not 0 <= probability <= 1:
        raise ValueError(
            "initial is at least 1, perturbations at least 0 and probability from 0 to 1, got"
            f" {initial}, {perturbations} and {probability}"
        )

    def run(architectures, rng):
        seen = []
        for _ in range(initial):
            picks = architectures.sample(rng)
            seen.append(((yield picks), picks))
        best = start = max(seen, key=lambda own: own[0])
        number = 0
        while True:
            _, base = start if number < perturbations else best
            picks = _changed(architectures, rng, base, probability)
            value = yield picks
            if value > best[0]:
                best = value, picks
            number += 1

    return run


def _changed(
    architectures: Architectures, rng: np.random.Generator, picks: Picks, probability: float
) -> Picks:
    decisions = len(picks) - picks.count(DROPPED)
    for _ in range(max(1, rng.binomial(decisions, probability))):
        picks = architectures.mutate(rng, picks)
    return picks
