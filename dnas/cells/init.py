"""Initial weights, all drawn at once.

A supernet has hundreds of arrays. Where each draws its own random numbers, XLA compiles a generator for each, which on
a CPU takes about as long as compiling the search itself. So the initializers here only note from which distribution an
array comes, and `init_variables` fills all of them from one draw. An op may use any other flax initializer beside them.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from dnas.base import Array, Key, PyTree


@struct.dataclass
class Undrawn(nn.meta.AxisMetadata):
    """A box around an array of zeros that is to be drawn from U(-bound, bound)."""

    value: Array
    bound: float = struct.field(pytree_node=False)

    def unbox(self) -> Array:
        return self.value

    def replace_boxed(self, value: Array) -> "Undrawn":
        return self.replace(value=value)

    def add_axis(self, index: int, params) -> "Undrawn":
        del index, params
        return self

    remove_axis = add_axis


def conv_init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Undrawn:
    """Marks a kernel [..., C_in, C_out] to be drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    PyTorch's default, from which all published results of the DARTS family start.
    """
    del key
    return Undrawn(jnp.zeros(shape, dtype), math.prod(shape[:-1]) ** -0.5)


def bias_init(fan_in: int) -> nn.initializers.Initializer:
    """Returns PyTorch's default for the bias of a linear layer: the distribution of its kernel."""

    def init(key: Key, shape: tuple[int, ...], dtype=jnp.float32) -> Undrawn:
        del key
        return Undrawn(jnp.zeros(shape, dtype), fan_in**-0.5)

    return init


def init_variables(module: nn.Module, key: Key, images: Array) -> PyTree:
    """Returns the variables of the module for images [B, H, W, C], with every marked array drawn."""
    module_key, draw_key = jax.random.split(key)

    def is_undrawn(leaf) -> bool:
        return isinstance(leaf, Undrawn)

    variables = module.init(module_key, images)
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
