"""The mixed op: every candidate of an edge, weighted. DARTS, eq. 2, https://arxiv.org/abs/1806.09055."""

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, Key, PyTree
from dnas.cells.init import applied, built_apart, cached_by_name
from dnas.cells.norms import LeftToSum, Norms, Output, Unnormed
from dnas.cells.ops import OPS, Op
from dnas.kernels.backend import on_cpu
from dnas.kernels.norms import mixed_norm_sum
from dnas.kernels.pooling import max_pool
from dnas.kernels.separable import separable_sum
from dnas.kernels.sums import scaled, weighted_sum


class Passed(NamedTuple):
    """What of an image is only weighted by a mixed op: the same for all that differ in weights and
    mix alone."""

    outputs: dict[str, Array]  # of pooling, normed
    rest: Array | None  # the channels that no candidate sees


@dataclasses.dataclass(frozen=True)
class MixedOp:
    """The weighted sum of all candidates, sum_o mix[o] * op_o(x), as a function of their weights.

    Args:
      ops: names in `OPS`, one a column of the mix.
      channels, stride, norms: of the candidates.
      partial_channels: K of PC-DARTS, https://arxiv.org/abs/1907.05737, section 3.1: the candidates
        see the first 1/K of the channels and are built for C/K; the others pass by, through a 2x2
        max pooling where the edge strides; at the end the channels are shuffled in K groups. What
        passes by is weighted by the sum of the row of the mix: by one as a rule, by the edge's
        weight where edges have weights, and by zero where an edge has been dropped.
      sampled: run only the op that has the largest weight, as GDAS does,
        https://arxiv.org/abs/1910.04465: for a mix of one-hot rows, whose value it equals.
        Gradients reach that op and its entry of the mix; the others are zero.
      together: run separable convolutions as one, see `separable_sum`; it changes the kernels that
        run, and values by rounding.
    """

    ops: tuple[str, ...]
    channels: int
    stride: int
    norms: Norms
    partial_channels: int = 1
    sampled: bool = False
    together: bool = False

    def init(self, key: Key, x: Array) -> PyTree:
        """Returns the weights {op: tree} of the candidates that have any, for x [B, H, W, C]."""
        part, _ = self.split(x)
        weights = {}
        for number, op in enumerate(self.ops):
            found = self._module(op).init(jax.random.fold_in(key, number), part)
            if found.get("params"):
                weights[op] = found["params"]
        return weights

    def __call__(self, weights: PyTree, mix: Array, x: Array) -> Array:
        """Returns [B, H/s, W/s, C] for x [B, H, W, C] and mix [O], or [O, B] where every sample has
        its own."""
        return self.run(weights, mix, self.prepare(x))

    def prepare(self, x: Array, pools: Sequence[str] = ()) -> tuple[Array, Passed]:
        """Returns what depends on x alone: the part of it that candidates see, and what is passed.

        Args:
          pools: candidates that are run here, since they have no weights.
        """
        part, rest = self.split(x)
        outputs = {op: applied(self._module(op, mixed=False), {}, part) for op in pools}
        return part, Passed(outputs, rest)

    def run(self, weights: PyTree, mix: Array, prepared: tuple[Array, Passed]) -> Array:
        """Returns the mixed op of what `prepare` made of x."""
        x, passed = prepared
        if self.sampled:
            return self.beside(self._sample(weights, mix, x), mix, passed.rest)
        # `none` adds nothing, so it is neither computed nor summed; its entry of the mix gets a
        # gradient of zero.
        kept = [n for n, op in enumerate(self.ops) if not OPS[op].computes_nothing]
        alike = self._alike(kept, mix)
        terms = [self._separable(alike, weights, mix, x)] if alike else []
        alone = [n for n in kept if n not in alike]
        if alone:
            outputs, row = [], mix[np.asarray(alone)]
            for op in (self.ops[n] for n in alone):
                known = passed.outputs.get(op)
                outputs.append(self._run_op(op, weights, x) if known is None else known)
            arrays, eps = left_norms(outputs)
            if mix.ndim > 1 or not any(eps):
                terms.append(weighted_sum(row, normed(outputs)))
            else:
                terms.append(mixed_norm_sum(row, arrays, eps))
        if not terms:
            terms = normed([self._run_op(self.ops[0], weights, x)])
        return self.beside(sum(terms[1:], terms[0]), mix, passed.rest)

    def passing(self, mix: Array, passed: Passed) -> Array:
        """Returns the terms of the mixed op that depend on what is passed."""
        y: Any = sum(
            scaled(mix[self.ops.index(op)], output) for op, output in passed.outputs.items()
        )
        if not passed.outputs and passed.rest is not None:
            shape = (*passed.rest.shape[:-1], self.width)
            y = jnp.zeros(shape, passed.rest.dtype)
        return self.beside(y, mix, passed.rest)

    def only(self, ops: tuple[str, ...]) -> "MixedOp":
        """Returns the mixed op of some of the candidates."""
        return dataclasses.replace(self, ops=ops)

    @property
    def width(self) -> int:
        """Channels of the candidates."""
        return self.channels // self.partial_channels

    def _module(self, op: str, *, mixed: bool = True) -> nn.Module:
        norms = self.norms._replace(mixed=mixed and not self.sampled)
        return op_module(OPS[op], self.width, self.stride, norms)

    def _run_op(self, op: str, weights: PyTree, x: Array) -> Output:
        return applied(self._module(op), {"params": weights.get(op, {})}, x)

    def _alike(self, kept: Sequence[int], mix: Array) -> list[int]:
        """The candidates that run as one."""
        if not self.together or mix.ndim != 1 or left_norm(self.norms) is None:
            return []
        found = [n for n in kept if OPS[self.ops[n]].separable is not None]
        return found if len(found) > 1 else []

    def _separable(self, alike: Sequence[int], weights: PyTree, mix: Array, x: Array) -> Array:
        forms = [form for n in alike if (form := OPS[self.ops[n]].separable) is not None]
        own = nn.meta.unbox([weights[self.ops[n]] for n in alike])
        norm = left_norm(self.norms)
        assert norm is not None  # or they would not run as one
        return separable_sum(mix[np.asarray(alike)], forms, own, x, self.stride, norm.eps)

    def _sample(self, weights: PyTree, mix: Array, x: Array) -> Array:
        if mix.ndim != 1:
            raise ValueError(
                "a sampled path is one for the whole batch; with a mix for each sample give"
                " sampled=False"
            )

        def pure(op):
            return lambda weights, x: self._run_op(op, weights, x)

        ops, number = [pure(op) for op in self.ops], jnp.argmax(mix)
        if not any(OPS[op].computes_nothing for op in self.ops):
            # For an edge without any weight, which a genotype does without.
            number = jnp.where(jnp.any(mix != 0), number, len(ops))
            mix = jnp.append(mix, 0.0)
            ops.append(lambda weights, x: applied(self._module("none"), {}, x))
        return run_sampled(ops, number, weights, mix, x)

    def split(self, x: Array) -> tuple[Array, Array | None]:
        """Returns what the candidates read of x, and what passes by, in the size of the output."""
        if self.partial_channels == 1:
            return x, None
        width = x.shape[-1] // self.partial_channels
        rest = x[..., width:]
        return x[..., :width], max_pool(rest, self.stride, window=2) if self.stride > 1 else rest

    def beside(self, y: Array, mix: Array, rest: Array | None) -> Array:
        """Returns the output where candidates make y of a part of the channels, the others passing
        by."""
        if rest is None:
            return y
        both = jnp.concatenate([y, scaled(mix.sum(0), rest)], axis=-1)
        return shuffle(both, self.partial_channels)


@functools.cache
def op_module(op: Op, channels: int, stride: int, norms: Norms) -> nn.Module:
    """Returns the module of an op, by itself."""

    def build():
        return op(channels=channels, stride=stride, norms=norms).clone(parent=None)

    return built_apart(build)


@functools.cache
def left_norm(norms: Norms, place: str = "conv") -> LeftToSum | None:
    """Returns the last norm of ops if the mixed op does it together with its sum."""
    norm = built_apart(lambda: norms._replace(mixed=True).last(place))
    return norm if isinstance(norm, LeftToSum) else None


def normed(outputs: Sequence[Output]) -> list[Array]:
    """Returns what ops return, with the norms that they leave to be done."""
    return [own.normed() if isinstance(own, Unnormed) else own for own in outputs]


def left_norms(
    outputs: Sequence[Output],
) -> tuple[list[Array], tuple[float | None, ...]]:
    """Returns what ops return as arrays, and the eps of the norms that they leave to be done."""
    arrays = [own.x if isinstance(own, Unnormed) else own for own in outputs]
    return arrays, tuple(own.eps if isinstance(own, Unnormed) else None for own in outputs)


def shuffle(x: Array, groups: int) -> Array:
    """Returns x [B, H, W, C] with its channels regrouped: channel (g, c) of `groups` groups goes to
    place (c, g).

    PC-DARTS, section 3.1 and released code; ShuffleNet, https://arxiv.org/abs/1707.01083. With C /
    groups for groups it is its own inverse.
    """
    if on_cpu():
        return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)
    # Without a transpose, for which XLA:GPU would lay out all that is near with the channels first,
    # and turn it back again.
    return jnp.stack(jnp.split(x, groups, axis=-1), axis=-1).reshape(x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def switch(branches, number, *args):
    """Returns branches[number](*args): only this one runs, forward and backward.

    The automatic gradient of `lax.switch` keeps what the gradient of any branch might need, filled
    with zeros for those that have not run; here the backward pass is a switch of its own, over
    branches that run again.
    """
    return _switch_fwd(branches, number, *args)[0]


def _switch_fwd(branches, number, *args):
    def valued(branch):  # the value that comes with a gradient, as in the loops over edges
        return lambda *args: jax.vjp(branch, *args)[0]

    return lax.switch(number, [valued(branch) for branch in branches], *args), (number, *args)


def _switch_bwd(branches, saved, g):
    def pull_back(branch):
        return lambda args, g: jax.vjp(branch, *args)[1](g)

    number, *args = saved
    found = lax.switch(number, [pull_back(branch) for branch in branches], args, g)
    return np.zeros((), jax.dtypes.float0), *found


switch.defvjp(_switch_fwd, _switch_bwd)


def run_sampled(ops, number: Array, weights: PyTree, mix: Array, x: Array) -> Array:
    """Returns mix[number] * ops[number](weights, x): only this op runs, forward and backward."""
    branches = tuple(partial(_weighed, op, place) for place, op in enumerate(ops))
    return switch(branches, number, weights, mix, x)


def _weighed(op, place, weights, mix, x):
    return mix[place].astype(x.dtype) * op(weights, x)


@cached_by_name
def weight_shapes(op: MixedOp) -> PyTree:
    """Returns the shapes of the weights of one edge, {op: tree}."""
    x = jnp.zeros((1, 4, 4, op.channels))
    return nn.meta.unbox(jax.eval_shape(op.init, jax.random.key(0), x))
