"""dnas's own method: from the largest network on, by short trainings of deep and narrow ones."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnas.baselines import live_macs
from dnas.bilevel import cosine_by_epoch
from dnas.genotype import Genotype
from dnas.methods.method import Method, Trials
from dnas.methods.published import published
from dnas.methods.training import Training, weight_optimizer
from dnas.searchers import Evaluation, local_search
from dnas.space import SearchSpace, one_hot_mix

# As networks of NAS-Bench-201 are trained from scratch.
_SETTINGS: Mapping[str, Any] = {
    "epochs": 0,
    "single_level": True,
    "batch_size": 32,
    "learning_rate": 0.1,
    "min_learning_rate": 0.0,
    "nesterov": True,
    "weight_decay": 5e-4,
    "trials": 100,
    "trial_steps": 200,
    "repeats": 4,
}


@published(
    "trained neighbours, dnas's own",
    "https://arxiv.org/abs/2005.02960",
    settings={
        "darts": {**_SETTINGS, "channels": 8, "num_cells": 20},
        "nasbench201": {**_SETTINGS, "channels": 8, "num_cells": 15},
        "chain": _SETTINGS,
    },
    space="nasbench201",
)
def trained_neighbours(
    space: SearchSpace, training: Training, *, trials: int, trial_steps: int, repeats: int
) -> Method:
    """Returns local search that begins at the network with most multiply-adds, and judges its
    neighbours, and those of the best of them, by the loss at the end of a short training from
    scratch.

    What is shared between architectures is not the weights but the program, the first weights and
    the batches. The networks have all of their cells and few channels (`channels`, `num_cells`),
    since a shallow network hides what is hard to train in a deep one, which is what skips are for.
    Local search is that of the paper that is linked, which looks into tables; its start, and its
    values by short trainings, are dnas's own. What has been measured of it is in docs/evidence.md.

    Within limits on costs it begins at the network with most multiply-adds of those that meet
    them, and a neighbour that does not is brought there by the one exchange more that leaves most
    multiply-adds.

    Args:
      trials: networks trained at the most; it ends before at one that no neighbour is better than.
      trial_steps: of a training; the mean loss of its second half counts.
      repeats: trainings of the first network with other seeds. Twice the deviation of their losses
        is what a move has to gain, and of all networks so near to the best the one with most
        multiply-adds is taken: a short training may flatter what is shallow, and where it does not
        tell networks apart, size is the better guess.

    Example:
      >>> import dnas
      >>> method = trained_neighbours(dnas.SPACES["nasbench201"], steps_per_epoch=1562)
      >>> method.trials.number, method.trials.steps, method.training.num_cells
      (100, 100, 15)
    """

    def optimizer(epochs: int, steps_per_epoch: int):
        rate = cosine_by_epoch(
            epochs * steps_per_epoch,
            1,
            learning_rate=training.learning_rate,
            min_learning_rate=training.min_learning_rate,
        )
        return weight_optimizer(
            training, epochs, steps_per_epoch, clip=training.clip, schedule=rate
        )

    return Method(
        trials=Trials(
            lambda start, noise: local_search(
                start=start, first_improvement=False, gain=_DEVIATIONS * noise, again=False
            ),
            optimizer,
            number=trials,
            steps=max(trial_steps // 2, 1),
            repeats=repeats,
            choose=functools.partial(_largest_of_the_best, space),
        ),
    )


_DEVIATIONS = 2.0  # by which values that are not told apart may differ


def _largest_of_the_best(
    space: SearchSpace, history: Sequence[Evaluation], noise: float
) -> Genotype:
    """Of the architectures whose values noise does not tell from the best, that with most
    multiply-adds; of several the best."""
    cost = live_macs(space)
    values = {own.genotype: float(np.max(own.value)) for own in history}
    best = max(values.values())

    def size(genotype: Genotype) -> tuple[float, float]:
        return float(cost.discrete(one_hot_mix(space, genotype))), values[genotype]

    return max((own for own in values if values[own] >= best - _DEVIATIONS * noise), key=size)
