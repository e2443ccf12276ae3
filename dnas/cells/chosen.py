"""A cell of a final network: the chosen ops on the chosen edges."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dnas.base import Array, add_up
from dnas.cells.cell import run_cell
from dnas.cells.norms import Norms
from dnas.cells.ops import OPS
from dnas.graph import waves


class ChosenCell(nn.Module):
    """A cell of a final network: the chosen ops on the chosen edges.

    Args:
      edges: (source, target, op); several of one pair are summed.
      num_inputs, concat: of the graph; channels: of each node; stride: of the edges that leave the
        inputs.
      auxiliary_skip: whether each edge has a skip connection beside what was chosen.
    """

    edges: tuple[tuple[int, int, str], ...]
    num_inputs: int
    concat: tuple[int, ...]
    channels: int
    stride: int
    norms: Norms
    auxiliary_skip: bool = False

    @nn.compact
    def __call__(self, inputs: Sequence[Array], drop_path: Array | None = None) -> Array:
        """Returns [B, H/s, W/s, C * len(concat)] for inputs [B, H, W, C] each; drop_path is a rate,
        None for none."""
        ops: dict[tuple[int, int], list[str]] = {}
        for source, target, op in self.edges:
            ops.setdefault((source, target), []).append(op)

        def run_edge(source, target, x):
            stride = self.stride if source < self.num_inputs else 1
            name = f"edge_{source}_{target}"
            chosen = ChosenOps(
                tuple(ops[source, target]),
                self.channels,
                stride,
                self.norms,
                self.auxiliary_skip,
                name=name,
            )
            return chosen(x, drop_path)

        def run_wave(wave, xs):
            states = dict(zip(wave.sources, xs, strict=True))
            return [
                add_up(run_edge(source, target, x) for source, x in states.items())
                for target in wave.targets
            ]

        return run_cell(waves(tuple(ops), self.num_inputs), self.concat, run_wave, inputs)


class ChosenOps(nn.Module):
    """The sum of the chosen ops, one as a rule, with drop path on each that is not an identity,
    and of an auxiliary skip connection, which is never dropped."""

    ops: tuple[str, ...]
    channels: int
    stride: int
    norms: Norms
    auxiliary_skip: bool = False

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float | None = None) -> Array:
        """Returns [B, H/s, W/s, C]; drop_path is a rate, None for none."""
        outputs = []
        for name in self.ops:
            op = OPS[name](channels=self.channels, stride=self.stride, norms=self.norms, name=name)
            y = op(x)
            if drop_path is not None and not OPS[name].is_identity(self.stride):
                y = drop_samples(self.make_rng("drop_path"), y, drop_path)
            outputs.append(y)
        if self.auxiliary_skip:
            options = {"channels": self.channels, "stride": self.stride, "norms": self.norms}
            outputs.append(OPS["skip_connect"](**options, name="auxiliary_skip")(x))
        return add_up(outputs)


def drop_samples(key: Array, x: Array, rate: Array | float) -> Array:
    """Returns x [B, ...] with each sample zeroed with probability `rate`, the others divided by 1 -
    rate.

    Drop path as in FractalNet, https://arxiv.org/abs/1605.07648, and in the evaluation network of
    DARTS, appendix A.1.1.
    """
    kept = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)
