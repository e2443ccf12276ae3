"""What runs on the edges of a cell: every candidate, weighted, in the supernet; the chosen ones in a final network."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnas.base import Array
from dnas.cells.cell import Wave
from dnas.cells.norms import Norms
from dnas.cells.ops import OPS, Identity


class MixedOp(nn.Module):
    """The weighted sum of all candidates: sum_o mix[o] * op_o(x). DARTS, eq. 2, https://arxiv.org/abs/1806.09055."""

    ops: tuple[str, ...]
    channels: int
    stride: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array, mix: Array) -> Array:
        """Returns [B, H/s, W/s, C] for x [B, H, W, C] and mix [O]."""
        outputs = (OPS[op](channels=self.channels, stride=self.stride, norms=self.norms, name=op)(x) for op in self.ops)
        return sum(weight * output for weight, output in zip(mix, outputs, strict=True))


# Mixed ops on all edges of a wave: an axis for the sources, then one for the targets. The inner map leaves x alone, so that
# what has no weights of its own (ReLU, pooling, its norm) runs once a source and not once an edge; the edges that leave a
# node become one larger op, which XLA compiles once.
_per_target = nn.vmap(MixedOp, in_axes=(None, 0), variable_axes={"params": 0}, split_rngs={"params": True})
MixedWave = nn.vmap(_per_target, in_axes=(0, 0), variable_axes={"params": 0}, split_rngs={"params": True})


def edge_weights(weights: Mapping, wave: Wave, source: int, target: int) -> Mapping:
    """Returns the weights of one edge's `MixedOp` out of those of a `MixedWave`."""
    place = wave.sources.index(source), wave.targets.index(target)
    return jax.tree.map(lambda array: array[place], weights)


class ChosenOps(nn.Module):
    """The sum of the chosen ops, one as a rule, with drop path on each that is not an identity."""

    ops: Sequence[str]
    channels: int
    stride: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float) -> Array:
        """Returns [B, H/s, W/s, C]; drop_path is a rate, or the float 0.0 where there is none."""
        outputs = []
        for name in self.ops:
            op = OPS[name](channels=self.channels, stride=self.stride, norms=self.norms, name=name)
            y = op(x)
            if not isinstance(op, Identity) and not (isinstance(drop_path, float) and drop_path == 0.0):
                y = drop_samples(self.make_rng("drop_path"), y, drop_path)
            outputs.append(y)
        return sum(outputs)


def drop_samples(key: Array, x: Array, rate: Array | float) -> Array:
    """Returns x [B, ...] with each sample zeroed with probability `rate`, the others divided by 1 - rate.

    Drop path as in FractalNet, https://arxiv.org/abs/1605.07648, and in the evaluation network of DARTS, appendix A.1.1.
    """
    kept = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x / (1.0 - rate), 0.0)
