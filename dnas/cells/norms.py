"""Batch norm with PyTorch's conventions, with or without state, and which norm goes where in a network."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array
from dnas.cells.kernels import fence


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalize(x: Array, eps: float) -> tuple[Array, Array, Array]:
    """Returns (y, mean, var) with y = (x - mean) / sqrt(var + eps), mean and biased var [C] over all axes but the last.

    The gradient is that of y alone: dx = (dy - mean(dy) - y * mean(dy * y)) / sqrt(var + eps), which needs y only, where
    the automatic one keeps the steps in between.
    """
    return _normalize_fwd(x, eps)[0]


def norm_forward(x, eps):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.square(x - mean).mean(axes)
    scale = lax.rsqrt(var + eps)
    return (x - mean) * scale, mean, var, scale


def norm_gradient(y, scale, dy):
    axes = tuple(range(y.ndim - 1))
    return scale * (dy - dy.mean(axes) - y * (dy * y).mean(axes))


_forward = fence(norm_forward, (1,))
_gradient = fence(norm_gradient, ())


def _normalize_fwd(x, eps):
    y, mean, var, scale = _forward(x, eps)
    return (y, mean, var), (y, scale)


def _normalize_bwd(eps, saved, cotangents):
    del eps
    return (_gradient(*saved, cotangents[0]),)


normalize.defvjp(_normalize_fwd, _normalize_bwd)


class BatchNorm(nn.Module):
    """Normalises each channel over the batch, height and width.

    y = (x - mean) / sqrt(var + eps), then scale and shift if `affine`. As PyTorch does (and flax does not), the biased
    variance normalises and the unbiased one enters the running average; momentum is the weight of the new batch.

    Args:
      affine: whether there are a trainable scale (ones at first) and shift (zeros).
      running: whether running averages are kept, in the collection "batch_stats"; without them the norm is stateless and
        always uses the batch at hand.
      train: use the batch, and update the averages; otherwise use the averages. Without `running` it has no effect.
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
        if self.running and not self.train:
            y = (x - average_mean.value) * lax.rsqrt(average_var.value + self.eps)
        else:
            y, mean, var = normalize(x, self.eps)
            if self.running and not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                average_mean.value = (1 - self.momentum) * average_mean.value + self.momentum * mean
                average_var.value = (1 - self.momentum) * average_var.value + self.momentum * unbiased
        if self.affine:
            y = y * self.param("scale", nn.initializers.ones, channels, x.dtype)
            y = y + self.param("bias", nn.initializers.zeros, channels, x.dtype)
        return y


def no_norm() -> Callable[[Array], Array]:
    """Returns the identity, where a place for a norm stays empty."""
    return lambda x: x


class Norms(NamedTuple):
    """A factory of the norm for each place of a network."""

    stem: Callable[[], Callable[[Array], Array]]
    conv: Callable[[], Callable[[Array], Array]]  # after the convolutions in cells
    pool: Callable[[], Callable[[Array], Array]]  # after pooling in cells


def search_norms(train: bool = True) -> Norms:
    """Returns the norms of a supernet: batch statistics always; scale and shift in the stem only.

    Norms without parameters on every candidate make the outputs comparable, and so the weights of a mix: DARTS, section
    3.1. `train` has no effect, since nothing is kept from batch to batch.
    """
    del train
    plain = partial(BatchNorm, affine=False, running=False)
    return Norms(stem=partial(BatchNorm, running=False), conv=plain, pool=plain)


def final_norms(train: bool) -> Norms:
    """Returns the norms of a final network: scale, shift and running averages; none after pooling."""
    full = partial(BatchNorm, train=train)
    return Norms(stem=full, conv=full, pool=no_norm)
