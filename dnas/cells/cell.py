"""The cell: a directed acyclic graph of nodes, the same for the supernet and the final network."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from dnas.base import Array
from dnas.graph import Wave


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
