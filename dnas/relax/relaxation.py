"""What a relaxation is, and what several of them are made of."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dnas.base import ABSENT, Array, Key, Logits
from dnas.choices import Choices


class Relaxation(NamedTuple):
    """How arch becomes mix, for one kind of decisions.

    `init(key, choices)` returns arch, a mapping with logits [E, O] under "ops", and whatever else
    the relaxation learns beside them. `sample(key, arch, choices, step)` returns the mix [E, O] of
    one step of the search. `read(arch, choices)` returns the mix that a genotype is read from, with
    nothing drawn at random; None where `sample` itself is read. Weights of a row are read in
    proportion to each other, as the probabilities of its options, whatever they sum to; it is there
    that costs are taken (`hw_loss.expected_cost`).

    A logit of `dnas.base.ABSENT` belongs to an option that has been dropped from its row: it is
    given no weight that another option of the row could have.
    """

    init: Callable[[Key, Choices], Logits]
    sample: Callable[[Key, Logits, Choices, Array], Array]
    read: Callable[[Logits, Choices], Array] | None = None


def present(logits: Array) -> Array:
    """Returns which ops are still in play, bool of the shape of the logits; half of ABSENT leaves
    room for what is added."""
    return logits > ABSENT / 2


def normal_logits(init_scale: float) -> Callable[[Key, Choices], Logits]:
    """Returns the `init` that draws logits [E, O] from a normal distribution of that standard
    deviation."""
    return lambda key, choices: {"ops": init_scale * jax.random.normal(key, choices.shape)}


def read_softmax(arch: Logits, choices: Choices) -> Array:
    """The `read` of relaxations that draw from softmax(arch)."""
    del choices
    return jax.nn.softmax(arch["ops"], axis=-1)


def read_mix(relaxation: Relaxation, arch: Logits, choices: Choices) -> Array:
    """Returns the mix [E, O] that a genotype is read from: that of `read`, or of `sample` where
    nothing is drawn."""
    if relaxation.read is None:
        return relaxation.sample(jax.random.key(0), arch, choices, jnp.zeros((), jnp.int32))
    return relaxation.read(arch, choices)


def value_at(step: Array, value: optax.ScalarOrSchedule) -> Array | float:
    """Returns what a number or a schedule is at a step."""
    return cast("Array | float", value(step)) if callable(value) else value


def straight_through(value: Array, surrogate: Array) -> Array:
    """Returns `value`, to the last bit, with the gradient of `surrogate`.
    https://arxiv.org/abs/1308.3432"""
    # In this order the difference is exactly zero; value - surrogate + surrogate would round.
    return lax.stop_gradient(value) + (surrogate - lax.stop_gradient(surrogate))
