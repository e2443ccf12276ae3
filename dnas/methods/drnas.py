"""DrNAS, https://arxiv.org/abs/2006.10355: in one stage, and with fewer candidates on more
channels in a second one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from dnas.arch_losses import dirichlet_kl
from dnas.base import Candidates
from dnas.cells import repeat_channels, widen_weights
from dnas.checks import one_of
from dnas.methods.method import Method, SearchResult, Stage
from dnas.methods.published import published
from dnas.methods.training import DARTS_IN_NASBENCH201, Training, alternating
from dnas.relax import dirichlet
from dnas.search import SearchState
from dnas.selection import strongest_ops
from dnas.space import SearchSpace

Regularizer = Literal["l2", "kl"]

# DARTS-space/train_search.py of the release
_IN_DARTS = {
    "regularizer": "l2",
    "learning_rate": 0.1,
    "min_learning_rate": 0.0,
    "arch_learning_rate": 6e-4,
}
_RETRAINING = {"darts": {"drop_path": 0.3, "batch_size": 64}}


@published(
    "DrNAS",
    "https://arxiv.org/abs/2006.10355",
    settings={
        "darts": {**_IN_DARTS, "partial_channels": 4, "warmup": 10 / 50},
        # 201-space/train_search.py, which the tables of the paper come from
        "nasbench201": {
            **DARTS_IN_NASBENCH201,
            "regularizer": "l2",
            "partial_channels": 1,
            "epochs": 100,
        },
        "chain": {"regularizer": "l2", "partial_channels": 1},
        "recurrent": {"regularizer": "l2", "partial_channels": 1},
    },
    retraining=_RETRAINING,
    space="darts_without_none",
)
def drnas(
    space: SearchSpace,
    training: Training,
    *,
    regularizer: Regularizer,
    partial_channels: int,
) -> Method:
    """Returns the search in one stage, over mixes that are drawn from Dirichlet distributions.

    In DARTS's spaces the release has the search of `drnas_progressive` alone; this is the same on a
    supernet of the usual size, with K = 4 all along. Chains and recurrent cells, which it does not
    search, have the training that is usual there.

    Args:
      regularizer: what holds the concentrations near one, with the weight `arch_weight_decay`:
        "l2", the decay of the logits, or "kl", the divergence from the uniform distribution.
      partial_channels: K; an edge computes 1 / K of the channels, the others go past it.

    Raises:
      ValueError: for another regulariser.

    Differs from the release: edges are ranked by the mean of their distributions, concentration /
    sum, where the code has the softmax of the logits; the order of the ops of an edge is the same.

    Example:
      >>> import dnas
      >>> method = drnas(dnas.SPACES["nasbench201"], steps_per_epoch=390)
      >>> method.options, method.training.epochs, method.training.learning_rate
      ({}, 100, 0.025)
    """
    del space
    return _stage(training, regularizer, partial_channels)


@published(
    "DrNAS, progressive",
    "https://arxiv.org/abs/2006.10355",
    settings={
        "darts": {
            **_IN_DARTS,
            "channels": 36,
            "num_cells": 20,
            "partial_channels": (6, 4),
            "keep": (4,),
            "epochs": 25,
            "warmup": 10 / 25,
        },
        # 201-space/train_search_progressive.py
        "nasbench201": {
            **DARTS_IN_NASBENCH201,
            "regularizer": "l2",
            "partial_channels": (4, 2),
            "keep": (3,),
            "epochs": 50,
            "warmup": 10 / 50,
        },
    },
    retraining=_RETRAINING,
    space="darts_without_none",
)
def drnas_progressive(
    space: SearchSpace,
    training: Training,
    *,
    regularizer: Regularizer,
    partial_channels: Sequence[int],
    keep: Sequence[int],
) -> Method:
    """Returns the search in stages: fewer candidates on more of the channels, section 3.4.

    A stage takes over the weights, widened, the logits, and the state of both optimisers, so that
    one cosine goes over all of them; arch rests at the start of each. `epochs` and `warmup` are
    those of a stage.

    Args:
      regularizer: as in `drnas`.
      partial_channels: K of each stage; an edge computes 1 / K of the channels.
      keep: ops that stay on each edge in the stages after the first.

    Raises:
      ValueError: for another regulariser, or stages of which one list knows more than the other.

    Differs from the release: new channels are copies of old ones in turn, and what reads them is
    divided by their number, as Net2WiderNet has it; the code copies channels drawn at random and
    divides nothing. Momentum is copied with them, as there. Edges are ranked as in `drnas`.

    Example:
      >>> import dnas
      >>> method = drnas_progressive(dnas.SPACES["darts_without_none"], steps_per_epoch=390)
      >>> [stage.method.options for stage in dnas.methods.stages_of(method)]
      [{'partial_channels': 6}, {'partial_channels': 4}]
    """
    del space
    if len(keep) != len(partial_channels) - 1:
        raise ValueError(
            "every stage has its partial_channels, and every one after the first the ops that it"
            f" keeps; got {tuple(partial_channels)} and {tuple(keep)}"
        )
    training = dataclasses.replace(training, annealing=float(len(partial_channels)))
    first, *later = [_stage(training, regularizer, k) for k in partial_channels]
    stages = [
        Stage(method._replace(training=training), _strongest(number), _carried_on)
        for method, number in zip(later, keep, strict=True)
    ]
    return first._replace(stages=stages)


def _stage(training: Training, regularizer: Regularizer, partial_channels: int) -> Method:
    one_of(("l2", "kl"), regularizer=regularizer)
    arch_losses = []
    if regularizer == "kl":
        arch_losses = [(training.arch_weight_decay, dirichlet_kl())]
        training = dataclasses.replace(training, arch_weight_decay=0.0)
    return Method(
        dirichlet(),
        alternating(training),
        arch_losses=arch_losses,
        options={"partial_channels": partial_channels} if partial_channels > 1 else {},
    )


def _strongest(number: int) -> Callable[[SearchResult], Candidates]:
    return lambda before: strongest_ops(before.mix, before.state.candidates, number)


def _carried_on(state: SearchState, before: SearchResult) -> SearchState:
    """The first state of a stage: all that the stage before has learnt."""
    optimizer = repeat_channels(before.state.optimizer, state.optimizer)
    return state._replace(
        weights=widen_weights(before.state.weights, state.weights),
        arch=before.state.arch,
        # The steps of a stage, by which arch rests at first, are counted anew.
        optimizer=optimizer._replace(step=state.optimizer.step),
    )
