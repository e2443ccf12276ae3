"""Searchers of optuna, https://optuna.org: pip install 'dnas[searchers]'."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from dnas.checks import one_of
from dnas.searchers.architectures import DROPPED, Architectures, Picks
from dnas.searchers.searcher import Searcher

_SAMPLERS = {"tpe": "TPESampler", "nsgaii": "NSGAIISampler", "random": "RandomSampler"}


def optuna_search(sampler: str = "tpe", *, objectives: int = 1, **settings: Any) -> Searcher:
    """Returns a searcher that asks a sampler of optuna: each row has a categorical parameter, and
    each group of rows that compete one for the rows that have a place.

    Args:
      sampler: "tpe" (the tree-structured Parzen estimator, https://arxiv.org/abs/2304.11127),
        "nsgaii" (NSGA-II, https://doi.org/10.1109/4235.996017) or "random".
      objectives: how many values an architecture has; of each more is better.
      settings: keywords of the sampler.

    Raises:
      ValueError: for a sampler that is not known.
      ModuleNotFoundError: without optuna.

    Example:
      >>> import dnas
      >>> from dnas.searchers import run_searcher
      >>> history = run_searcher(
      ...     dnas.SPACES["nasbench201"],
      ...     optuna_search("nsgaii", objectives=2, population_size=4),
      ...     lambda cell: (cell.count("nor_conv_3x3")["cell"], -cell.count("none")["cell"]),
      ...     budget=8,
      ... )
      >>> len(history), len(history[0].value)
      (8, 2)
    """
    one_of(_SAMPLERS, sampler=sampler)
    try:
        import optuna
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "optuna is not installed: pip install 'dnas[searchers]', or take a searcher of"
            " dnas.searchers that needs nothing"
        ) from None
    make: Callable[..., Any] = getattr(optuna.samplers, _SAMPLERS[sampler])

    def run(architectures, rng):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            directions=[optuna.study.StudyDirection.MAXIMIZE] * objectives,
            sampler=make(seed=int(rng.integers(2**31)), **settings),
        )
        while True:
            trial = study.ask()
            value = yield _suggested(trial, architectures)
            study.tell(trial, value)

    return run


def _suggested(trial: Any, architectures: Architectures) -> Picks:
    picks = np.full(len(architectures.columns), DROPPED)
    dropped: set[int] = set()
    for number, (rows, places) in enumerate(architectures.groups):
        ways = [",".join(map(str, kept)) for kept in itertools.combinations(rows, places)]
        kept = trial.suggest_categorical(f"group {number}", ways)
        dropped |= set(rows) - set(map(int, kept.split(",")))
    for row, own in enumerate(architectures.columns):
        if row not in dropped:
            picks[row] = trial.suggest_categorical(f"row {row}", own)
    return tuple(picks.tolist())
