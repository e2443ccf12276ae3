"""The device that programs are compiled for, by which kernels choose their form.
docs/performance.md says what was measured."""

import jax
import jax.custom_batching
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from dnas.base import Array, PyTree


def on_cpu() -> bool:
    """Whether programs run on a CPU, where what counts is the cache of a core and loops that
    vectorise.

    On an accelerator it is the number of kernels and the bytes that they move: there XLA fuses what
    it likes, sums over many pixels are fast as they stand, and all edges that leave a node run at
    once.
    """
    return jax.default_backend() == "cpu"


def written(arrays: PyTree) -> PyTree:
    """The arrays, which on an accelerator are written to memory at this point.

    XLA computes a cheap array again in all that reads it. For what reads a pixel at 25 taps, such
    as a convolution that would take in a norm, a ReLU and a border, or a sum that would take in
    four convolutions, that costs up to twenty times as long.
    """
    return arrays if on_cpu() else _written(arrays)


@jax.custom_jvp  # older JAX has neither the derivative of a barrier nor its rule for vmap
@jax.custom_batching.custom_vmap
def _written(arrays):
    return lax.optimization_barrier(jax.tree.map(_in_order, arrays))


@_written.fun.def_vmap
def _written_mapped(axis_size, mapped, arrays):
    del axis_size  # where nothing is mapped there is nothing to do
    return _written(arrays), mapped[0]


@_written.defjvp
def _written_jvp(primals, tangents):
    return _written(*primals), *tangents


def _in_order(array: Array) -> Array:
    """The array with its last axis innermost.

    Left alone, XLA:GPU lays out an image as the next product of matrices would have it, and turns
    what is near back and forth: a fifth of all bytes that a step moved, and two hundred kernels a
    cell.
    """
    return with_layout_constraint(array, Layout(major_to_minor=tuple(range(array.ndim))))
