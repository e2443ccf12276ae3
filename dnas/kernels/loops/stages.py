"""Runs the cells of a stage of the supernet in one loop.

Between two reductions all cells have the same channels and size; only the 1x1 convolutions in front
of them differ, since they read what earlier stages left. With those taken out, XLA compiles the
edges of a stage once: five times for the whole supernet, those of the reductions that stride
included, however many cells it has.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree
from dnas.kernels.loops.edges import RunEdge, scan_edges
from dnas.space import CellSpec, LayerSpec


class StageOps(NamedTuple):
    """What runs in a stage, as functions of weights."""

    edge: Callable[[int, int], RunEdge]  # (channels, stride) -> what an edge runs
    older: Callable[
        [int, bool, PyTree, Array], Array
    ]  # (channels, halve, weights, x): the 1x1 convolution of the older input
    newer: Callable[[int, PyTree, Array], Array]  # (channels, weights, x): that of the newer one


def stage_lengths(layers: Sequence[LayerSpec]) -> list[int]:
    """Returns how many layers each stage has; a reduction begins one.

    Example:
      >>> import dnas
      >>> stage_lengths(dnas.SPACES["darts"].layers(channels=16, num_cells=8, image_size=32))
      [2, 3, 3]
    """
    starts = [number for number, layer in enumerate(layers) if number == 0 or layer.stride > 1] + [
        len(layers)
    ]
    return [end - start for start, end in itertools.pairwise(starts)]


def run_stage(
    spec: CellSpec,
    layers: Sequence[LayerSpec],
    ops: StageOps,
    weights: Sequence[Mapping[str, PyTree]],
    rows: Sequence[Array],
    before: Array,
    last: Array,
    *,
    halves: Sequence[bool],
    remat: bool,
    waves: bool = False,
) -> tuple[Array, Array]:
    """Returns the outputs [B, h, w, C * len(concat)] of the last two cells of a stage, `last` for
    the first if it has one.

    Args:
      spec: the graph of all cells of the stage; two inputs.
      layers: of the stage; only the first may stride.
      weights: for each cell, "preprocess_0", "preprocess_1" and in "cell" the stacked edges, see
        `MixedCell`.
      rows: for each cell its mix [E, O].
      before, last: the outputs of the two cells before the stage.
      halves: for each cell whether its older input is twice as large as the newer one.
      remat, waves: as in `scan_edges`.
    """
    edges = sorted(spec.edges)
    order = np.asarray([spec.edges.index(edge) for edge in edges])
    channels, stride = layers[0].channels, layers[0].stride
    first = [
        ops.older(channels, halves[0], weights[0]["preprocess_0"], before),
        ops.newer(channels, weights[0]["preprocess_1"], last),
    ]
    batch, height, width, _ = first[0].shape
    shape = batch, height // stride, width // stride, channels
    nodes = jnp.zeros((spec.num_nodes, *shape), last.dtype)
    skip = None
    plain = [layer.get("cell", {}).get("edges_stride_1", {}) for layer in weights]
    if stride > 1:
        from_inputs = [edge for edge in edges if edge[0] < spec.num_inputs]
        links = [(source, target - spec.num_inputs) for source, target in from_inputs]
        strided = weights[0].get("cell", {}).get(f"edges_stride_{stride}", {})
        run, number = ops.edge(channels, stride), len(from_inputs)
        nodes = scan_edges(
            run,
            links,
            strided,
            rows[0][order[:number]],
            jnp.stack(first),
            nodes,
            remat=remat,
            waves=waves,
        )
        if len(layers) == 1 and number == len(edges):
            return last, _concatenate(spec, nodes, spec.num_inputs)
        # In the loop the first cell only runs its other edges, on inputs that are not there any
        # more.
        first = [jnp.zeros(shape, last.dtype)] * 2
        skip = np.zeros((len(layers), len(edges)), bool)
        skip[0, :number] = True
        inner = plain[0] if number < len(edges) else jax.tree.map(lambda array: array[:0], plain[1])
        plain[0] = jax.tree.map(
            lambda array: jnp.pad(array, [(number, 0)] + [(0, 0)] * (array.ndim - 1)), inner
        )

    # The convolutions between cells belong to the loop: after cell n come the newer one of n + 1
    # and the older one of n + 2. The last cells have none to come; theirs are zeros, and what they
    # compute is not used.
    newer = [layer["preprocess_1"] for layer in weights[1:]]
    older = [layer["preprocess_0"] for layer in weights[2:]]
    third = (
        ops.older(channels, halves[1], weights[1]["preprocess_0"], last)
        if len(layers) > 1
        else first[0]
    )
    loop = {
        "edges": _stack(plain),
        "rows": jnp.stack([row[order] for row in rows]),
        "skip": skip,
        "nodes": None if stride == 1 else jnp.arange(len(layers)) == 0,
        "newer": _stack([*newer, _zeros(newer[0])]) if newer else None,
        "older": _stack([*older, _zeros(older[0]), _zeros(older[0])]) if older else None,
    }

    def body(carry, cell):
        inputs, third = carry
        own = jnp.zeros_like(nodes) if stride == 1 else jnp.where(cell["nodes"], nodes, 0)
        states = jnp.concatenate([jnp.stack(inputs), own])
        run = ops.edge(channels, 1)
        states = scan_edges(
            run,
            edges,
            cell["edges"],
            cell["rows"],
            None,
            states,
            skip=cell["skip"],
            remat=remat,
            waves=waves,
        )
        y = _concatenate(spec, states, 0)
        following = ops.newer(channels, cell["newer"], y) if newer else inputs[1]
        after = ops.older(channels, False, cell["older"], y) if older else third
        return ((third, following), after), y

    _, outputs = lax.scan(body, (tuple(first), third), loop)
    return (outputs[-2] if len(layers) > 1 else last), outputs[-1]


def _concatenate(spec: CellSpec, states: Array, first: int) -> Array:
    return jnp.concatenate([states[node - first] for node in spec.concat], axis=-1)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.zeros_like, tree)
