"""What loops over edges read and write, and the steps that all of them are made of.

XLA compiles what an edge computes once instead of once an edge, and all that it computes on the way
is small enough to stay in the cache of a CPU. The backward pass of a loop runs each edge forward
again instead of reading back what it kept: on a CPU that is faster than writing it to memory, and
takes a tenth of the memory.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
from dnas.kernels.kernel import fence

# (source, target) of each edge: places in what the edges read and in the nodes
Links = Sequence[tuple[int, int]]

# (weights of the edge, its row of the mix [O], x [B, H, W, C]) -> y [B, h, w, C]
RunEdge = Callable[[PyTree, Array, Array], Array]


class EdgeArrays(NamedTuple):
    """The arrays of a loop over E edges."""

    weights: PyTree  # of the edges, a tree of arrays [E, ...]
    mix: Array  # [E, O]
    states: Array | None  # [S, B, H, W, C], what the edges read; None if they read `nodes` itself
    nodes: Array  # [N, B, h, w, C], what the outputs of edges are added to
    # bool [E], edges that do not run and add nothing; None to run all
    skip: Array | np.ndarray | None = None

    @property
    def read(self) -> Array:
        """What the edges read. Sources are complete before an edge reads them: where edges read the
        nodes themselves, all edges into a node come before those that leave it."""
        return self.nodes if self.states is None else self.states


# What a loop is to those that run it: the nodes with the output of every edge added to its target.
EdgeLoop = Callable[[EdgeArrays], Array]


def columns(links: Links) -> tuple[Array, ...]:
    """Returns the sources [E] and the targets [E]."""
    return tuple(jnp.asarray(column, jnp.int32) for column in zip(*links, strict=True))


def read(buffer: Array, place: Array, width: int | None = None) -> Array:
    """Returns buffer[place], or so many of its rows from there on."""
    if width is not None:
        return lax.dynamic_slice_in_dim(buffer, place, width)
    return lax.dynamic_index_in_dim(buffer, place, 0, keepdims=False)


# Out of the buffer before anything is added to it: else XLA, which might read it later once more,
# copies all.
taken = fence(read)


def add(buffer: Array, place: Array, y: Array, width: int | None = None) -> Array:
    """Returns the buffer with y added to buffer[place], or to so many rows from there on."""
    # Added as the slice that it is: with its first axis taken off, XLA would copy it out of the
    # buffer before it adds.
    y = y if width is not None else y[None]
    return lax.dynamic_update_slice_in_dim(buffer, read(buffer, place, len(y)) + y, place, 0)


class Gradients(NamedTuple):
    """The buffers of a backward pass: gradients of what the edges read and of the nodes."""

    states: Array | None  # None if the edges read the nodes
    nodes: Array

    @classmethod
    def of(cls, arrays: EdgeArrays, gradient: Array) -> "Gradients":
        """Returns the buffers at the start, for a gradient of the nodes."""
        states = None if arrays.states is None else jnp.zeros_like(arrays.states)
        return cls(states, gradient)

    def plus(self, source: Array, of_x: Array) -> "Gradients":
        """Returns the buffers with the gradient of what an edge has read added to its source."""
        if self.states is None:
            return Gradients(None, add(self.nodes, source, of_x))
        return Gradients(add(self.states, source, of_x), self.nodes)


def zeros(shapes: PyTree) -> PyTree:
    """Returns arrays of zeros of these shapes."""
    return jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)


def no_gradient(array: Array | np.ndarray | None) -> np.ndarray | None:
    """Returns the cotangent of an array that is not differentiated."""
    return None if array is None else np.zeros(array.shape, jax.dtypes.float0)


def unless(skipped: Array | None, function: Callable[..., PyTree], *args: Any) -> PyTree:
    """Returns function(*args), or zeros of its shapes where it is skipped."""
    if skipped is None:
        return function(*args)
    shapes = jax.eval_shape(function, *args)
    return lax.cond(skipped, lambda *args: zeros(shapes), function, *args)


def run_if(whether: Array, function: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """Returns function(carry), or the carry as it is.

    A loop that turns once or never: XLA changes the carry of a loop in place, but copies what goes
    through a conditional, which here is the buffer of all states.
    """

    def turn(loop):
        return jnp.zeros_like(loop[0]), function(loop[1])

    return lax.while_loop(lambda loop: loop[0], turn, (whether, carry))[1]
