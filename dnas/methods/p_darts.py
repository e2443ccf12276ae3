"""P-DARTS, https://arxiv.org/abs/1904.12760."""

import dataclasses
from collections.abc import Callable, Sequence

import optax

from dnas.base import Candidates
from dnas.methods.method import Method, SearchResult, Stage
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, drop_ops, softmax
from dnas.selection import skip_budget, strongest_ops
from dnas.space import SearchSpace


@published(
    "P-DARTS",
    "https://arxiv.org/abs/1904.12760",
    settings={
        "darts": {
            "relaxation": softmax(),
            "epochs": 25,
            "warmup": 10 / 25,
            "num_cells": 5,
            "batch_size": 96,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
            "depths": (5, 11, 17),
            "keep": (5, 3),
            "skip_dropout": (0.0, 0.4, 0.7),
        },
    },
)
def p_darts(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    depths: Sequence[int],
    keep: Sequence[int],
    skip_dropout: Sequence[float],
) -> Method:
    """Returns the search in three stages: deeper supernets with fewer candidates, new weights and
    new logits in each.

    Args:
      depths: cells of the supernet in each stage, where the first is to have as many as here;
        another number of cells in the settings scales all of them.
      keep: ops that stay on each edge in the second and the third stage.
      skip_dropout: rate at which skip connections are dropped at the start of each stage.
    """
    del space
    stages = []
    for depth, rate in zip(depths, skip_dropout, strict=True):
        num_cells = round((training.num_cells or depths[0]) * depth / depths[0])
        own = dataclasses.replace(training, num_cells=num_cells)
        falling = optax.linear_schedule(rate, 0.0, own.steps)
        dropped = drop_ops(relaxation, falling, ops=("skip_connect",)) if rate else relaxation
        stages.append(Method(dropped, alternating(own), select=skip_budget(), training=own))
    later = [
        Stage(method, candidates=_strongest(number))
        for method, number in zip(stages[1:], keep, strict=True)
    ]
    return stages[0]._replace(stages=later)


def _strongest(number: int) -> Callable[[SearchResult], Candidates]:
    return lambda before: strongest_ops(before.mix, before.state.candidates, number)
