"""P-DARTS, https://arxiv.org/abs/1904.12760."""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from dnas.base import Array, Candidates, epoch_of
from dnas.methods.method import Method, SearchResult, Stage
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, drop_ops, softmax
from dnas.selection import skip_budget, strongest_ops
from dnas.space import SearchSpace

_SKIP = "skip_connect"


@published(
    "P-DARTS",
    "https://arxiv.org/abs/1904.12760",
    settings={
        # train_search.py of the release; the dropout is the paper's for CIFAR-10, where the README
        # of the release has 0.1 in the first stage
        "darts": {
            "relaxation": softmax(),
            "epochs": 25,
            "warmup": 10 / 25,
            "num_cells": 5,
            "batch_size": 96,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
            "arch_clip": 5.0,
            "depths": (5, 11, 17),
            "keep": (5, 3),
            "skip_rates": (0.0, 0.4, 0.7),
            "most_skips": 2,
        },
    },
    # train_cifar.py
    retraining={"darts": {"batch_size": 128, "drop_path": 0.3}},
)
def p_darts(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    depths: Sequence[int],
    keep: Sequence[int],
    skip_rates: Sequence[float],
    most_skips: int,
) -> Method:
    """Returns the search in three stages: deeper supernets with fewer candidates, new weights and
    new logits in each.

    Args:
      depths: cells of the supernet in each stage, where the first is to have as many as here;
        another number of cells in the settings scales all of them.
      keep: ops that stay on each edge in the second and the third stage.
      skip_rates: rate at which skip connections are dropped at the start of each stage, see
        `skip_rate`.
      most_skips: M, how many skip connections the normal cell may have.

    Raises:
      ValueError: for a space without a normal cell, or one whose edges have no skip connection.

    Example:
      >>> import dnas
      >>> method = p_darts(dnas.SPACES["darts"], steps_per_epoch=260)
      >>> [method.training.num_cells, *[stage.method.training.num_cells for stage in method.stages]]
      [5, 11, 17]

    Differs from the release: it drops single elements of what an identity hands on; here all of a
    skip connection is dropped for a batch, in all cells of a kind at once and also where it halves
    the image, with the same expectation and more variance: what is drawn is the mix, of which there
    is one an edge. It prints genotypes with any number of skip connections and leaves the choice to
    its user; here it is the paper's.
    """
    if "normal" not in space.choices or any(
        _SKIP not in choices.options for choices in space.choices.values()
    ):
        raise ValueError(
            "P-DARTS bounds the skip connections of a normal cell, and the space"
            f" {space.name!r} has no such cell or no skip_connect; take a space such as 'darts'"
        )
    stages = []
    for depth, rate in zip(depths, skip_rates, strict=True):
        num_cells = round((training.num_cells or depths[0]) * depth / depths[0])
        own = dataclasses.replace(training, num_cells=num_cells)
        dropped = drop_ops(relaxation, skip_rate(own, rate), ops=(_SKIP,)) if rate else relaxation
        select = skip_budget(most_skips)
        stages.append(Method(dropped, alternating(own), select=select, training=own))
    later = [
        Stage(method, candidates=_strongest(number))
        for method, number in zip(stages[1:], keep, strict=True)
    ]
    return stages[0]._replace(stages=later)


def skip_rate(training: Training, start: float) -> optax.Schedule:
    """Returns the rate at which skip connections are dropped in a stage of n epochs, as the
    released code has it: start * (n - e - 1) / n in epoch e of the warm-up, then again from the
    start on start * exp(-5 (e - warm-up) / n), which is exp(-0.2) an epoch of 25.

    Example:
      >>> training = Training(steps_per_epoch=10, epochs=25, warmup=10 / 25)
      >>> rate = skip_rate(training, 0.5)
      >>> [round(float(rate(10 * epoch)), 3) for epoch in (0, 9, 10, 15)]
      [0.48, 0.3, 0.5, 0.184]
    """
    epochs = training.epochs
    warmup = round(training.warmup * epochs)

    def rate(step: ArrayLike) -> Array:
        epoch = epoch_of(step, training.steps_per_epoch)
        falling = (epochs - epoch - 1) / epochs
        again = jnp.exp(-5 * (epoch - warmup) / epochs)
        return start * jnp.where(epoch < warmup, falling, again)

    return rate


def _strongest(number: int) -> Callable[[SearchResult], Candidates]:
    return lambda before: strongest_ops(before.mix, before.state.candidates, number)
