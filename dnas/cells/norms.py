"""Batch norm with PyTorch's conventions, with or without state, and which norm goes where in a
network."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array
from dnas.kernels.norms import normalize, rows


class BatchNorm(nn.Module):
    """Normalises each channel over the batch, height and width.

    y = (x - mean) / sqrt(var + eps), then scale and shift if `affine`. As PyTorch does (and flax
    does not), the biased variance normalises and the unbiased one enters the running average;
    momentum is the weight of the new batch.

    Args:
      affine: whether there are a trainable scale (ones at first) and shift (zeros).
      running: whether running averages are kept, in the collection "batch_stats"; without them the
        norm is stateless and always uses the batch at hand.
      train: use the batch, and update the averages; otherwise use the averages. Without `running`
        it has no effect.
    """

    affine: bool = True
    running: bool = True
    train: bool = True
    momentum: float = 0.1
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1:]
        if self.running:
            average_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, x.dtype)
            average_var = self.variable("batch_stats", "var", jnp.ones, channels, x.dtype)
        scale = shift = None
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, channels, x.dtype)
            shift = self.param("bias", nn.initializers.zeros, channels, x.dtype)
        if self.running and not self.train:
            rate = lax.rsqrt(average_var.value + self.eps)
            y = (x - rows(average_mean.value, x)) * rows(rate, x)
            if scale is not None and shift is not None:
                y = y * rows(scale, x) + rows(shift, x)
            y = y.astype(x.dtype)
        else:
            y, mean, var = normalize(x, scale, shift, self.eps)
            if self.running and not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                average_mean.value = (1 - self.momentum) * average_mean.value + self.momentum * mean
                average_var.value = (
                    1 - self.momentum
                ) * average_var.value + self.momentum * unbiased
        return y


@partial(jax.tree_util.register_dataclass, data_fields=["x"], meta_fields=["eps"])
@dataclasses.dataclass(frozen=True)
class Unnormed:
    """What an op computes before its last norm, which is one without parameters and state and is
    left to the mixed op."""

    x: Array
    eps: float

    def normed(self) -> Array:
        return normalize(self.x, None, None, self.eps)[0]


def with_norm(y: Array | Unnormed) -> Array:
    """Returns what an op returns, with the norm that it left to be done."""
    return y.normed() if isinstance(y, Unnormed) else y


@dataclasses.dataclass(frozen=True)
class LeftToSum:
    """The last norm of an op that the mixed op does together with its sum."""

    eps: float

    def __call__(self, x: Array) -> Unnormed:
        return Unnormed(x, self.eps)


# What ops return: an image, or what their last norm is left to be applied to.
Output = Array | Unnormed
Norm = Callable[[Array], Output]


def uses_batch_only(norm: Norm) -> bool:
    """Whether the norm subtracts the mean of the batch at hand, at all times; so does one that is
    left to the mixed op."""
    return isinstance(norm, LeftToSum) or (isinstance(norm, BatchNorm) and not norm.running)


def no_norm() -> Callable[[Array], Array]:
    """Returns the identity, where a place for a norm stays empty."""
    return lambda x: x


class Norms(NamedTuple):
    """A factory of the norm for each place of a network."""

    stem: Callable[[], Callable[[Array], Array]]
    conv: Callable[[], Callable[[Array], Array]]  # after the convolutions in cells
    pool: Callable[[], Callable[[Array], Array]]  # after pooling in cells
    # whether a mixed op does the norm that its ops end with, if that has no parameters and no state
    mixed: bool = False

    def last(self, place: str = "conv") -> Norm:
        """Returns the norm that an op ends with; `place` is "conv" or "pool"."""
        norm = getattr(self, place)()
        left = self.mixed and isinstance(norm, BatchNorm) and not norm.affine and not norm.running
        return LeftToSum(norm.eps) if left else norm


# An empty place for norms everywhere, as scores have it that follow what flows through weights.
NO_NORMS = Norms(stem=no_norm, conv=no_norm, pool=no_norm)


# the same object again, so that modules built with it are equal and are traced once
@functools.cache
def search_norms(train: bool = True) -> Norms:
    """Returns the norms of a supernet: batch statistics always; scale and shift in the stem only.

    Norms without parameters on every candidate make the outputs comparable, and so the weights of a
    mix: DARTS, section 3.1. `train` has no effect, since nothing is kept from batch to batch.
    """
    del train
    plain = partial(BatchNorm, affine=False, running=False)
    return Norms(stem=partial(BatchNorm, running=False), conv=plain, pool=plain)


@functools.cache
def final_norms(train: bool) -> Norms:
    """Returns the norms of a final network: scale, shift and running averages; none after
    pooling."""
    full = partial(BatchNorm, train=train)
    return Norms(stem=full, conv=full, pool=no_norm)
