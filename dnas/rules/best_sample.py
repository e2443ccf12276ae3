"""The end of a search with weight sharing: architectures drawn from the mix, each evaluated with
the shared weights."""

import functools

import jax
import numpy as np

from dnas.checks import checked
from dnas.rules.rule import Observed, Rule, Verdict
from dnas.selection import best_of_samples
from dnas.space import one_hot_mix


@checked
def best_sample(
    *, num_samples: int = 100, finalists: int = 10, batches: int | None = None, seed: int = 0
) -> Rule:
    """Returns the rule that after the last epoch draws architectures and reads the genotype from
    the most accurate one.

    With a uniform mix, when arch has never moved, this is random search with weight sharing,
    https://arxiv.org/abs/1902.07638; otherwise the last phase of SETN and of FBNet,
    https://arxiv.org/abs/1812.03443.

    Args:
      num_samples: architectures to evaluate.
      finalists: of these, where they are first evaluated on a few batches, how many are then
        evaluated on all.
      batches: the first so many of them, the same for every architecture; None: all are evaluated
        on all. The release of random search with weight sharing leaves 10 of 1,000 after 10
        batches.
      seed: of the draws.

    Raises:
      ValueError: if num_samples, finalists or batches is below 1.
    """
    if min(num_samples, finalists, 1 if batches is None else batches) < 1:
        raise ValueError(
            "num_samples, finalists and batches are at least 1, got"
            f" {num_samples}, {finalists} and {batches}"
        )

    def init(space, epochs):
        del space
        return {"epochs": np.asarray(epochs, np.int32)}

    def update(state, observed: Observed):
        if observed.epoch < int(state["epochs"]):
            return state, Verdict()
        quick = None
        if batches is not None:
            quick = functools.partial(observed.accuracy, batches=batches)
        genotype, accuracy = best_of_samples(
            jax.random.key(seed),
            observed.space,
            observed.mix,
            observed.accuracy,
            num_samples=num_samples,
            quick_accuracy=quick,
            finalists=finalists,
        )
        mix = {
            kind: np.asarray(rows) for kind, rows in one_hot_mix(observed.space, genotype).items()
        }
        return state, Verdict(stop=True, mix=mix, metrics={"sample_accuracy": accuracy})

    return Rule(init, update)
