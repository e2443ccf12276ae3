"""Initial weights, all drawn at once.

A supernet has hundreds of arrays. Where each draws its own random numbers, XLA compiles a generator
for each, which on a CPU takes about as long as compiling the search itself. So the initializers
here only note from which distribution an array comes, and `init_variables` fills all of them from
one draw. An op may use any other flax initializer beside them.

A supernet also has many cells of the same shapes. Python traces a flax module slowly, so
`TracedOnce` does it once for all places where the same module meets the same shapes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from dnas.base import AnyArray, Array, Key, PyTree


@struct.dataclass
class Undrawn(nn.meta.AxisMetadata):
    """A box around an array of zeros that is to be drawn from U(-bound, bound)."""

    value: Array
    bound: float = struct.field(pytree_node=False)

    def unbox(self) -> Array:
        return self.value

    def replace_boxed(self, value: Array) -> "Undrawn":
        return Undrawn(value, self.bound)

    def add_axis(self, index: int, params) -> "Undrawn":
        del index, params
        return self

    def remove_axis(self, index: int, params) -> "Undrawn":
        del index, params
        return self


def conv_init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Any:
    """Marks a kernel [..., C_in, C_out] to be drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    PyTorch's default, from which all published results of the DARTS family start. What flax hands
    to the module is the array in the mark.
    """
    del key
    return Undrawn(jnp.zeros(shape, dtype), math.prod(shape[:-1]) ** -0.5)


def bias_init(fan_in: int) -> nn.initializers.Initializer:
    """Returns PyTorch's default for the bias of a linear layer: the distribution of its kernel."""

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Undrawn:
        del key
        return Undrawn(jnp.zeros(shape, dtype), fan_in**-0.5)

    return init


@partial(jax.jit, static_argnums=0)
def _init(module: nn.Module, key: Key, args: PyTree) -> tuple[PyTree, PyTree]:
    return module.init_with_output(key, *args)


@partial(jax.jit, static_argnums=0)
def apply_once(
    module: nn.Module, variables: PyTree, rngs: Mapping[str, Key], *args: Array
) -> tuple[Any, PyTree]:
    """Returns (output, what changed in "batch_stats") of a module; traced once for equal modules
    and shapes."""
    return module.apply(variables, *args, rngs=dict(rngs), mutable=["batch_stats"])


@partial(jax.jit, static_argnums=0)
def run_module(module: nn.Module, weights: PyTree, x: Array) -> Any:
    """Returns what a module without state makes of x; traced once for equal modules and shapes."""
    return applied(module, {"params": weights}, x)


_Function = TypeVar("_Function", bound=Callable)
_by_name: list[Any] = []  # what `cached_by_name` has made


def cached_by_name(function: _Function) -> _Function:
    """Returns the function with its results kept, for arguments that know ops by their names."""
    made = functools.cache(function)
    _by_name.append(made)
    return made  # type: ignore[return-value]


def forget_modules() -> None:
    """Forgets what was traced and built once, since a name stands for another op from now on."""
    jax.clear_caches()
    for made in _by_name:
        made.cache_clear()


class _Apart(nn.Module):
    @nn.compact
    def __call__(self, build):
        return build()


def built_apart(build: Callable[[], Any]) -> Any:
    """Returns what `build` makes of flax modules, without a place in the module that is running:
    there each would take the next of the names that flax gives, which weights are found by."""
    return applied(_Apart(parent=None), {}, build)


def applied(module: nn.Module, variables: PyTree, *args: Any) -> Any:
    """Returns the output of a module that changes none of its variables."""
    return module.apply(variables, *args)


# The same, computed again for the gradient instead of keeping what it computed.
checkpointed = jax.checkpoint(apply_once, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class Unbound:
    """A module that flax does not bind to the module whose field it is."""

    module: nn.Module


class TracedOnce(nn.Module):
    """Runs a module as a pure function of its variables, which lie under the name of this one.

    Args:
      unbound: holds the module, built with `parent=None` and of hashable fields; its call takes
        arrays.
    """

    unbound: Unbound

    @nn.compact
    def __call__(self, *args):
        if self.is_initializing():
            output, variables = _init(self.unbound.module, self.make_rng("params"), args)
            self.keep(variables)
            return output
        output, changed = apply_once(self.unbound.module, self.own(), self.rngs(), *args)
        self.keep(changed)
        return output

    def own(self) -> PyTree:
        """The variables of the module."""
        return nn.meta.unbox({name: dict(values) for name, values in self.variables.items()})

    def rngs(self) -> Mapping[str, Key]:
        """A new key for each random stream that is on."""
        return {"drop_path": self.make_rng("drop_path")} if self.has_rng("drop_path") else {}

    def keep(self, variables: PyTree) -> None:
        """Stores new values of the collections that may change."""
        for collection, values in variables.items():
            for name, value in values.items():
                if self.is_mutable_collection(collection):
                    self.put_variable(collection, name, value)


def init_variables(module: nn.Module, key: Key, images: Array, *args: AnyArray) -> PyTree:
    """Returns the variables of the module for images [B, H, W, C] and further arguments, with every
    marked array drawn."""
    module_key, draw_key = jax.random.split(key)

    def is_undrawn(leaf) -> bool:
        return isinstance(leaf, Undrawn)

    variables = module.init(module_key, images, *args)
    leaves, tree = jax.tree.flatten(variables, is_leaf=is_undrawn)
    total = sum(leaf.value.size for leaf in leaves if is_undrawn(leaf))
    numbers = jax.random.uniform(draw_key, (total,), images.dtype, -1.0, 1.0)
    drawn, start = [], 0
    for leaf in leaves:
        if is_undrawn(leaf):
            end = start + leaf.value.size
            leaf, start = leaf.bound * numbers[start:end].reshape(leaf.value.shape), end
        drawn.append(leaf)
    return jax.tree.unflatten(tree, drawn)


def check_dtype(dtype) -> None:
    """Raises ValueError unless networks can compute in the type."""
    try:
        known = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            f"dtype {dtype!r} is not a floating-point type; choose from: float32, bfloat16,"
            " float16, float64"
        )


def in_dtype(dtype, tree: PyTree) -> PyTree:
    """Returns the tree with its floating-point arrays in the type a network computes in; None
    leaves them alone."""
    if dtype is None:
        return tree
    return jax.tree.map(
        lambda array: array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array,
        tree,
    )


def stack_trees(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree whose arrays have a first axis more."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)
