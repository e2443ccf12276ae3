"""Searches of several stages: each is a search of its own, which begins with what the one before it
has found."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import dnas
from dnas.app.config import MethodConfig
from dnas.base import Candidates
from dnas.selection import strongest_ops


class Stage(NamedTuple):
    config: MethodConfig
    candidates: Callable[[dnas.SearchResult], Candidates] | None = (
        None  # result of the stage before -> ops in play
    )
    begin: Callable[[dnas.SearchState, dnas.SearchResult], dnas.SearchState] | None = (
        None  # changes the first state
    )


def stages_of(config: MethodConfig) -> list[Stage]:
    """Returns the stages of a search, one for most methods."""
    make = {
        "p_darts": _p_darts,
        "drnas_progressive": _drnas_progressive,
        "darts_pt": _darts_pt,
    }.get(config.stages)
    return [Stage(config)] if make is None else make(config)


def _p_darts(config: MethodConfig) -> list[Stage]:
    """Deeper supernets with fewer candidates, new weights and new logits in each. P-DARTS,
    https://arxiv.org/abs/1904.12760.

    Of eight ops five and then three stay on each edge; depths are as 5 to 11 to 17, and skip
    connections are dropped at rates of 0, 0.4 and 0.7 at the start of a stage.
    """
    stages = []
    for depth, rate, keep in ((5, 0.0, None), (11, 0.4, 5), (17, 0.7, 3)):
        own = dataclasses.replace(config, cells=round(config.cells * depth / 5), skip_dropout=rate)
        stages.append(Stage(own, None if keep is None else _keep(keep)))
    return stages


def _keep(number: int) -> Callable[[dnas.SearchResult], Candidates]:
    return lambda before: strongest_ops(before.mix, before.state.candidates, number)


def _drnas_progressive(config: MethodConfig) -> list[Stage]:
    """Fewer candidates on more of the channels: K falls to two thirds, the ops from seven to four;
    weights and logits stay.

    DrNAS, section 3.4, https://arxiv.org/abs/2006.10355.
    """

    def begin(state, before):
        return state._replace(
            weights=dnas.widen_weights(before.state.weights, state.weights), arch=before.state.arch
        )

    wider = dataclasses.replace(config, partial_channels=max(config.partial_channels * 2 // 3, 1))
    return [Stage(config), Stage(wider, _keep(4), begin)]


def _darts_pt(config: MethodConfig) -> list[Stage]:
    """A search, and then its projection onto a genotype by perturbation while the supernet is
    tuned.

    DARTS-PT, https://arxiv.org/abs/2108.04392: a tenth of the learning rate, falling over the whole
    of the tuning.
    """

    def begin(state, before):
        return state._replace(weights=before.state.weights, arch=before.state.arch)

    interval = {} if config.interval is None else {"interval": config.interval}
    tuning = dataclasses.replace(
        config,
        epochs=dnas.perturbation_epochs(dnas.SPACES[config.space], **interval),
        learning_rate=config.learning_rate / 10,
        min_learning_rate=min(config.min_learning_rate, config.learning_rate / 10),
        warmup=0.0,
        rule="perturbation",
    )
    return [Stage(dataclasses.replace(config, interval=None)), Stage(tuning, None, begin)]
