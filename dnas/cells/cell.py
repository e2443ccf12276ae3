"""The cell: a directed acyclic graph of nodes, the same for the supernet and the final network."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from dnas.base import Array


class Wave(NamedTuple):
    """Edges that can run at once: all pairs of these sources and targets."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


def waves(edges: Sequence[tuple[int, int]], num_inputs: int) -> tuple[Wave, ...]:
    """Returns the edges grouped into waves, in an order in which every source is complete when its wave runs.

    A wave holds the edges that leave one node; the inputs of the cell share a wave if they lead to the same nodes.

    Example:
      >>> waves([(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], num_inputs=2)
      (Wave(sources=(0, 1), targets=(2, 3)), Wave(sources=(2,), targets=(3,)))
    """
    targets = {source: tuple(sorted(t for s, t in edges if s == source)) for source in sorted({s for s, _ in edges})}
    inputs = [source for source in targets if source < num_inputs]
    if len({targets[source] for source in inputs}) == 1:
        groups = [inputs] + [[source] for source in targets if source >= num_inputs]
    else:
        groups = [[source] for source in targets]
    return tuple(Wave(tuple(group), targets[group[0]]) for group in groups)


class Cell(nn.Module):
    """Sums into each node what its incoming edges make of earlier nodes; its output is a concatenation of nodes.

    Args:
      waves: the edges, see `waves`.
      concat: the nodes that form the output.
      run_wave: (wave, xs) -> ys, called inside the cell, so that modules it makes belong to the cell. xs are the states
        [B, H, W, C] of the sources; ys are for each target [B, h, w, C] the sum over the sources.
    """

    waves: Sequence[Wave]
    concat: Sequence[int]
    run_wave: Callable[[Wave, Sequence[Array]], Sequence[Array]]

    @nn.compact
    def __call__(self, inputs: Sequence[Array]) -> Array:
        """Returns [B, H/s, W/s, C * len(concat)] for inputs that are [B, H, W, C] each."""
        states = dict(enumerate(inputs))
        for wave in self.waves:
            ys = self.run_wave(wave, [states[source] for source in wave.sources])
            for target, y in zip(wave.targets, ys, strict=True):
                states[target] = states[target] + y if target in states else y
        return jnp.concatenate([states[node] for node in self.concat], axis=-1)
