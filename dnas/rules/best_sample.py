"""The end of a search with weight sharing: architectures drawn from the mix, each evaluated with
the shared weights."""

import jax
import numpy as np

from dnas.rules.rule import Observed, Rule, Verdict
from dnas.selection import best_of_samples
from dnas.space import one_hot_mix


def best_sample(*, num_samples: int = 100, seed: int = 0) -> Rule:
    """Returns the rule that after the last epoch draws architectures and reads the genotype from
    the most accurate one.

    With a uniform mix, when arch has never moved, this is random search with weight sharing,
    https://arxiv.org/abs/1902.07638; otherwise the last phase of SETN and of FBNet,
    https://arxiv.org/abs/1812.03443.

    Args:
      num_samples: architectures to evaluate.
      seed: of the draws.

    Raises:
      ValueError: if num_samples is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples is at least 1, got {num_samples}")

    def init(space, epochs):
        del space
        return {"epochs": np.asarray(epochs, np.int32)}

    def update(state, observed: Observed):
        if observed.epoch < int(state["epochs"]):
            return state, Verdict()
        key = jax.random.key(seed)
        genotype, accuracy = best_of_samples(
            key, observed.space, observed.mix, observed.accuracy, num_samples=num_samples
        )
        mix = {
            kind: np.asarray(rows) for kind, rows in one_hot_mix(observed.space, genotype).items()
        }
        return state, Verdict(stop=True, mix=mix, metrics={"sample_accuracy": accuracy})

    return Rule(init, update)
