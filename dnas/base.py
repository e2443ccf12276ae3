"""Type aliases, and the words that the project uses everywhere.

weights   the parameters of the network, a pytree
arch      the trainable architecture logits: {kind: {"ops": [E, O], ...}}
mix       what a relaxation makes of arch, one number per row and option: {kind: [E, O]}
genotype  the discrete result, see `dnas.genotype`
table     hardware costs per op
choices   what is decided, see `dnas.choices`

Shape letters: B batch, H height, W width, C channels, E rows (the decisions of a kind, in a cell
its edges), O options (in a cell the ops), N examples, K seeds. A *kind* is a type of cell, such as
"normal" or "reduce", or any other sort of decision, such as "kernel" or "depth". The papers write
alpha for arch and w for weights; those names appear here only where an equation is quoted.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

# enable_x64(True) is the context in which arrays may have 64 bits; jax 0.8 has moved it.
_HOME: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
enable_x64: Callable[[bool], AbstractContextManager[None]] = _HOME.enable_x64

Array = jax.Array
AnyArray = jax.Array | np.ndarray  # also one on the host, as rules and selections have them
Key = jax.Array  # a typed key, jax.random.key(seed)
PyTree = Any
Metrics = dict[str, Array]  # scalars by name
# Of one kind: {"ops": logits [E, O]}, beside them what else its relaxation learns.
Logits = Mapping[str, Array]
Arch = Mapping[str, Logits]  # {kind: {"ops": [E, O], ...}}
# {kind: [E, O]}, or [E, O, B] where every sample of a batch has a mix of its own
Mix = Mapping[str, AnyArray]
Candidates = Mapping[str, AnyArray]  # {kind: bool [E, O]}: which options of which row are in play

T = TypeVar("T")

ABSENT = -1e9  # the logit of an op that has been dropped from its edge

# (weights, arch) -> (scalar loss, metrics): what the two levels of the search minimise.
Objective = Callable[[PyTree, Arch], tuple[Array, Metrics]]

# (arch, mix) -> scalar: a term that is added to the outer objective. The mix is the one that a
# genotype is read from, in which nothing is drawn at random.
ArchLoss = Callable[[Arch, Mix], Array]

# (key, step, loss of a mix, mix) -> mix: what the weights are trained under in place of the mix
# itself.
Perturbation = Callable[[Key, Array, Callable[[Mix], Array], Mix], Mix]


class AnyBatch(Protocol):
    """What a step learns from: a pytree with these fields and whatever else the loss reads."""

    @property
    def inputs(self) -> PyTree:
        """What networks read."""

    @property
    def key(self) -> Key | None:
        """[], of what a model draws on it; None: of the step's own."""


class Batch(NamedTuple):
    """Some examples, each with a target."""

    inputs: PyTree  # what networks read, such as images [B, H, W, C]
    targets: Array  # [B] int32
    key: Key | None = None  # [], of what a model draws on it; None: of the step's own


def add_up(terms: Iterable[Array]) -> Array:
    """Returns the sum of one array or more. A type checker takes `sum` for the number 0 as well."""
    return cast(Array, sum(terms))


def custom_vjp(
    *, nondiff_argnums: tuple[int, ...]
) -> "Callable[[Callable[..., T]], jax.custom_vjp[T]]":
    """Returns the decorator `jax.custom_vjp` with these arguments, of which a type checker knows
    what the function returns."""
    return lambda function: cast(
        "jax.custom_vjp[T]", jax.custom_vjp(function, nondiff_argnums=nondiff_argnums)
    )


def epoch_of(step: ArrayLike, steps_per_epoch: int) -> Array:
    """Returns the epoch that a step belongs to, counted from 0."""
    return jnp.asarray(step) // steps_per_epoch
