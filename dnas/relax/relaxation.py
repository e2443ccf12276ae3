"""What a relaxation is."""

from collections.abc import Callable
from typing import NamedTuple

from dnas.base import ArchRows, Array, Key
from dnas.space import CellSpec


class Relaxation(NamedTuple):
    """How arch becomes mix, for one kind of cell.

    `init(key, spec)` returns arch: logits [E, O], or a mapping that holds them under "ops" beside other arrays.
    `sample(key, arch, spec, step)` returns the mix [E, O] of one step of the search. `read(arch, spec)` returns the mix that
    a genotype is read from, with nothing drawn at random; None where `sample` itself draws nothing.

    A logit of `dnas.base.ABSENT` belongs to an op that has been dropped from its edge: it is given no weight that another
    op of the edge could have.
    """

    init: Callable[[Key, CellSpec], ArchRows]
    sample: Callable[[Key, ArchRows, CellSpec, Array], Array]
    read: Callable[[ArchRows, CellSpec], Array] | None = None


def op_logits(arch: ArchRows) -> Array:
    """Returns the logits [E, O] of the ops in what a relaxation calls arch."""
    return arch if hasattr(arch, "shape") else arch["ops"]
