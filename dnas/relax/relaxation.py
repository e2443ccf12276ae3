"""What a relaxation is."""

from collections.abc import Callable
from typing import NamedTuple

from dnas.base import Array, Key
from dnas.space import CellSpec


class Relaxation(NamedTuple):
    """How arch becomes mix, for one kind of cell.

    `init(key, spec)` returns arch; `sample(key, arch, spec, step)` returns the mix [E, O] of one step of the search.
    """

    init: Callable[[Key, CellSpec], Array]
    sample: Callable[[Key, Array, CellSpec, Array], Array]
