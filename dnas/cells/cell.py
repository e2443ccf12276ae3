"""The cell: a directed acyclic graph of nodes, the same for the supernet and the final network."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from dnas.base import Array


class Wave(NamedTuple):
    """Edges that can run at once: all pairs of these sources and targets."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


def waves(edges: Sequence[tuple[int, int]], num_inputs: int) -> tuple[Wave, ...]:
    """Returns the edges grouped into waves, in an order in which every source is complete when its
    wave runs.

    A wave holds the edges that leave one node; the inputs of the cell share a wave if they lead to
    the same nodes.

    Example:
      >>> waves([(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], num_inputs=2)
      (Wave(sources=(0, 1), targets=(2, 3)), Wave(sources=(2,), targets=(3,)))
    """
    targets = {
        source: tuple(sorted(t for s, t in edges if s == source))
        for source in sorted({s for s, _ in edges})
    }
    inputs = [source for source in targets if source < num_inputs]
    if len({targets[source] for source in inputs}) == 1:
        groups = [inputs] + [[source] for source in targets if source >= num_inputs]
    else:
        groups = [[source] for source in targets]
    return tuple(Wave(tuple(group), targets[group[0]]) for group in groups)


def run_cell(
    waves: Sequence[Wave],
    concat: Sequence[int],
    run_wave: Callable[[Wave, Sequence[Array]], Sequence[Array]],
    inputs: Sequence[Array],
) -> Array:
    """Sums into each node what its incoming edges make of earlier nodes, and returns the
    concatenation of some nodes.

    Args:
      waves: the edges, see `waves`.
      concat: the nodes that form the output.
      run_wave: (wave, xs) -> ys; xs are the states [B, H, W, C] of the sources; ys are for each
        target [B, h, w, C] the sum over the sources.
      inputs: [B, H, W, C] each.

    Returns:
      [B, H/s, W/s, C * len(concat)].
    """
    states = dict(enumerate(inputs))
    for wave in waves:
        ys = run_wave(wave, [states[source] for source in wave.sources])
        for target, y in zip(wave.targets, ys, strict=True):
            states[target] = states[target] + y if target in states else y
    return jnp.concatenate([states[node] for node in concat], axis=-1)
