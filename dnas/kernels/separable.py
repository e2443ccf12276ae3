"""Separable convolutions of one input run as one, for accelerators.

The four of a mixed op of DARTS differ in the sizes of their depthwise kernels alone. The products
with their 1x1 kernels, the sums of their norms and all gradients of these are one each here, with
one more axis. Half of the kernels that a GPU runs for an edge are too small for anything but their
number to count: slices of weights, ends of sums, factors of norms.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree, add_up
from dnas.kernels.convolutions import depthwise_conv, pointwise_product
from dnas.kernels.norms import normalize, stacked_norm_sum


@dataclasses.dataclass(frozen=True)
class Separable:
    """How the depthwise convolutions of an op differ from those of others."""

    dilation: int  # of the first half
    twice: bool  # whether there is a second half


def separable_sum(
    mix: Array,
    ops: Sequence[Separable],
    weights: Sequence[PyTree],
    x: Array,
    stride: int,
    eps: float,
) -> Array:
    """Returns sum_n mix[n] * op_n(x) [B, H/s, W/s, C] for x [B, H, W, C] and mix [N].

    Args:
      ops: N, of one stride; weights: of each, {"DepthwiseConv_i": {"kernel": [k, k, 1, C]},
        "Dense_i": {"kernel": [C, C]}} for i of 0, and 1 where the op is twice what it is.
      eps: of their norms, which have neither parameters nor state.
    """
    once, twice = ([n for n, op in enumerate(ops) if op.twice is kind] for kind in (False, True))
    order = once + twice
    dilations = [ops[n].dilation for n in order]
    first = _halves(0, [weights[n] for n in order], [x] * len(ops), stride, dilations)
    terms = []
    if once:
        terms.append(stacked_norm_sum(mix[np.asarray(once)], first[: len(once)], eps))
    if not twice:
        return add_up(terms)
    between = jax.vmap(lambda y: normalize(y, None, None, eps)[0])(first[len(once) :])
    second = _halves(1, [weights[n] for n in twice], list(between), 1, [1] * len(twice))
    terms.append(stacked_norm_sum(mix[np.asarray(twice)], second, eps))
    return add_up(terms)


def _halves(
    number: int,
    weights: Sequence[PyTree],
    images: Sequence[Array],
    stride: int,
    dilations: Sequence[int],
) -> Array:
    """[N, B, h, w, C]: the first or the second half of each op, but for its norm."""
    filters = [own[f"DepthwiseConv_{number}"]["kernel"] for own in weights]
    kernels = [own[f"Dense_{number}"]["kernel"] for own in weights]
    convs = [
        depthwise_conv(x, one, stride, dilation, relu=True)
        for x, one, dilation in zip(images, filters, dilations, strict=True)
    ]
    return jax.vmap(pointwise_product)(jnp.stack(convs), jnp.stack(kernels))
