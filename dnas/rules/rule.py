"""What may happen between the epochs of a search."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from dnas.base import Candidates, Mix, PyTree
from dnas.space import SearchSpace


class Observed(NamedTuple):
    """What a rule sees at the end of an epoch. All arrays are numpy's."""

    space: SearchSpace
    epoch: int  # epochs done
    mix: Mix  # {kind: [E, O]}: what a selection would read now, dropped candidates at zero
    candidates: Candidates  # {kind: bool [E, O]}
    # Of the supernet under a mix, on what trains arch, between 0 and 1; with `batches` as a keyword
    # on the first so many batches of it.
    accuracy: Callable[..., float]
    # Dominant eigenvalue of the Hessian of the outer loss with respect to arch, on the last batch
    # of the epoch.
    sharpness: Callable[[], float]


class Verdict(NamedTuple):
    """What a rule decides at the end of an epoch."""

    candidates: Candidates | None = None  # those of the epochs to come; None: as they are
    stop: bool = False  # end the search now
    mix: Mix | None = (
        None  # what the genotype is read from if the search ends here; None: the present one
    )
    metrics: Mapping[str, float] = MappingProxyType({})  # added to the row of the epoch


class Rule(NamedTuple):
    """A pair of functions that runs between epochs, outside of jit.

    `init(space, epochs)` returns a state, numpy arrays whose shapes never change: it is part of the
    checkpoint. `update(state, observed)` returns (state, Verdict).
    """

    init: Callable[[SearchSpace, int], PyTree]
    update: Callable[[PyTree, Observed], tuple[PyTree, Verdict]]


def kept_mix(mix: Mix) -> dict[str, np.ndarray]:
    """Returns the mix as a state keeps it."""
    return {kind: np.array(rows, np.float32) for kind, rows in mix.items()}


def zero_mix(space: SearchSpace) -> dict[str, np.ndarray]:
    """Returns {kind: zeros [E, O]}: the place in a state for a mix that is to be kept."""
    return {kind: np.zeros(own.shape, np.float32) for kind, own in space.choices.items()}
