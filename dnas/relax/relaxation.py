"""What a relaxation is, and what several of them are made of."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from jax import lax

from dnas.base import ABSENT, ArchRows, Array, Key
from dnas.space import CellSpec


class Relaxation(NamedTuple):
    """How arch becomes mix, for one kind of cell.

    `init(key, spec)` returns arch: logits [E, O], or a mapping that holds them under "ops" beside
    other arrays. `sample(key, arch, spec, step)` returns the mix [E, O] of one step of the search.
    `read(arch, spec)` returns the mix that a genotype is read from, with nothing drawn at random;
    None where `sample` itself draws nothing.

    A logit of `dnas.base.ABSENT` belongs to an op that has been dropped from its edge: it is given
    no weight that another op of the edge could have.
    """

    init: Callable[[Key, CellSpec], ArchRows]
    sample: Callable[[Key, ArchRows, CellSpec, Array], Array]
    read: Callable[[ArchRows, CellSpec], Array] | None = None


def op_logits(arch: ArchRows) -> Array:
    """Returns the logits [E, O] of the ops in what a relaxation calls arch."""
    return arch if hasattr(arch, "shape") else arch["ops"]


def replace_op_logits(arch: ArchRows, logits: Array) -> ArchRows:
    """Returns arch with the logits [E, O] of its ops replaced."""
    return logits if hasattr(arch, "shape") else {**arch, "ops": logits}


def present(logits: Array) -> Array:
    """Returns which ops are still in play, bool of the shape of the logits; half of ABSENT leaves
    room for what is added."""
    return logits > ABSENT / 2


def normal_logits(init_scale: float) -> Callable[[Key, CellSpec], Array]:
    """Returns the `init` that draws logits [E, O] from a normal distribution of that standard
    deviation."""
    return lambda key, spec: init_scale * jax.random.normal(key, (len(spec.edges), len(spec.ops)))


def read_softmax(arch: Array, spec: CellSpec) -> Array:
    """The `read` of relaxations that draw from softmax(arch)."""
    del spec
    return jax.nn.softmax(arch, axis=-1)


def read_mix(relaxation: Relaxation, arch: ArchRows, spec: CellSpec) -> Array:
    """Returns the mix [E, O] that a genotype is read from: that of `read`, or of `sample` where
    nothing is drawn."""
    if relaxation.read is None:
        return relaxation.sample(jax.random.key(0), arch, spec, 0)
    return relaxation.read(arch, spec)


def value_at(step: Array, value: optax.ScalarOrSchedule) -> Array | float:
    """Returns what a number or a schedule is at a step."""
    return value(step) if callable(value) else value


def straight_through(value: Array, surrogate: Array) -> Array:
    """Returns `value`, to the last bit, with the gradient of `surrogate`.
    https://arxiv.org/abs/1308.3432"""
    # In this order the difference is exactly zero; value - surrogate + surrogate would round.
    return lax.stop_gradient(value) + (surrogate - lax.stop_gradient(surrogate))
