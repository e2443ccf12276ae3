"""The layers of a network: which arrays of its weights are those of convolutions and products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dnas.base import Array, PyTree

# Parameters of norms, and biases.
_BESIDE = ("bias", "scale")
# Names that a supernet has for the weights of many layers together, [layers, ...]: those of the
# edges of a cell, and those of equal layers of a chain.
_STACKS = ("edges_stride_", "layers_")


def layers_of(tree: PyTree) -> list[Array]:
    """Returns the arrays [n, ...] of a tree like the weights, each of n layers of one shape.

    Biases and the parameters of norms are left out.

    Example:
      >>> weights = {"edges_stride_1": {"conv": {"kernel": jnp.ones((6, 4, 4))}}}
      >>> weights |= {"dense": {"kernel": jnp.ones((4, 10)), "bias": jnp.ones(10)}}
      >>> [layers.shape for layers in layers_of(weights)]
      [(1, 4, 10), (6, 4, 4)]
    """
    found = []
    for path, array in jax.tree_util.tree_leaves_with_path(tree):
        names = _names(path)
        if _is_layer(names):
            found.append(array if _is_stacked(names) else array[None])
    return found


def map_layers(
    function: Callable[[Array], Array], tree: PyTree, others: Callable[[Array], Array]
) -> PyTree:
    """Returns a tree like the weights with function(array) for the arrays of layers, and
    others(array) for biases and the parameters of norms."""

    def of(path, array):
        return function(array) if _is_layer(_names(path)) else others(array)

    return jax.tree_util.tree_map_with_path(of, tree)


def sum_over_layers(function: Callable[..., Array], *trees: PyTree) -> Array:
    """Returns the sum over all layers of function(*arrays), one array of each tree for a layer."""
    every = zip(*map(layers_of, trees), strict=True)
    return jnp.stack([jax.vmap(function)(*arrays).sum() for arrays in every]).sum()


def _names(path) -> list[str]:
    return [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]


def _is_layer(names: list[str]) -> bool:
    return not names or names[-1] not in _BESIDE


def _is_stacked(names: list[str]) -> bool:
    return any(name.startswith(_STACKS) for name in names)
