"""Searches over trainings that are stopped when they will not be the best:
https://arxiv.org/abs/1705.10823, section 4.2."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.predictors import final_values
from dnas.searchers.searcher import Evaluation, Search, Searcher
from dnas.space import SearchSpace


@checked
def search_trainings(
    space: SearchSpace,
    searcher: Searcher,
    train: Callable[[Genotype], Iterator[float]],
    *,
    epochs: int,
    budget: int,
    confidence: float = 0.95,
    whole: int = 20,
    seed: int = 0,
) -> list[Evaluation]:
    """Returns what a searcher of one objective evaluates by trainings with a budget of epochs, in
    order: values, and epochs as costs.

    The first trainings run to their end. Of each other `final_values` predicts the end after every
    epoch, from those that ran to theirs. Where it lies below the best end so far with the given
    probability, by a normal distribution, the training stops, and its value is what was predicted.

    Args:
      train: of a genotype, yields its value (an accuracy, say) after each epoch, and trains no
        further than it is asked to. One that keeps what it has yielded makes a search resumable:
        the same seed asks for the same again.
      epochs: of a training.
      budget: of epochs, of all trainings. What is left of it and too little for a training is
        spent without a value.
      confidence: the probability; 1 stops none.
      whole: how many trainings run to their end before any may stop.

    Raises:
      ValueError: for a confidence that is not from 0.5 to 1, fewer than 5 whole trainings, no
        epoch, or a training that yields fewer values than it has epochs.
      ModuleNotFoundError: without scikit-learn.
    """
    if not 0.5 <= confidence <= 1 or whole < 5 or epochs < 1:
        raise ValueError(
            "confidence is from 0.5 to 1, whole at least 5 and epochs at least 1; got"
            f" {confidence}, {whole} and {epochs}"
        )
    from scipy.special import ndtri

    margin = float(ndtri(confidence))  # in deviations
    search, spent = Search(space, searcher, seed), 0
    ended: list[list[float]] = []
    while spent < budget:
        try:
            genotype = search.ask()
        except StopIteration:
            break
        left = min(epochs, budget - spent)
        curve: list[float] = []
        value = None
        for now in itertools.islice(train(genotype), left):
            curve.append(float(now))
            if confidence < 1 and len(ended) >= whole and len(curve) < epochs:
                mean, spread = final_values(np.array(ended), np.array([curve]))
                if mean[0] + margin * spread[0] < max(own[-1] for own in ended):
                    value = float(mean[0])
                    break
        spent += len(curve)
        if value is None:
            if len(curve) < left:
                raise ValueError(
                    f"the training of {genotype} yields {len(curve)} values; train yields one after"
                    f" each of {epochs} epochs"
                )
            if left < epochs:
                break
            ended.append(curve)
            value = curve[-1]
        search.tell(value, len(curve))
    return search.history
