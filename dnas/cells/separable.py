"""Separable convolutions of one input run as one, for accelerators.

The four of a mixed op of DARTS differ in the sizes of their depthwise kernels alone. The products
with their 1x1 kernels, the sums of their norms and all gradients of these are one each here, with
one more axis. Half of the kernels that a GPU runs for an edge are too small for anything but their
number to count: slices of weights, ends of sums, factors of norms.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.cells.kernels import depthwise_conv, pointwise_product
from dnas.cells.norms import normalize, stacked_norm_sum
from dnas.cells.ops import DilConv, SepConv


def separable_sum(
    mix: Array, ops: Sequence[SepConv | DilConv], weights: Sequence[PyTree], x: Array, eps: float
) -> Array:
    """Returns sum_n mix[n] * op_n(x) [B, H/s, W/s, C] for x [B, H, W, C] and mix [N].

    Args:
      ops: N of one stride; weights: of each, {"DepthwiseConv_i": {"kernel": [k, k, 1, C]},
        "Dense_i": {"kernel": [C, C]}} for i of 0, and 1 where the op is twice what it is.
      eps: of their norms, which have neither parameters nor state.
    """
    once, twice = ([n for n, op in enumerate(ops) if op.twice is kind] for kind in (False, True))
    first = _halves(
        0, [ops[n] for n in once + twice], [weights[n] for n in once + twice], [x] * len(ops)
    )
    total = stacked_norm_sum(mix[np.asarray(once)], first[: len(once)], eps) if once else 0.0
    if not twice:
        return total
    between = jax.vmap(lambda y: normalize(y, None, None, eps)[0])(first[len(once) :])
    second = _halves(1, [ops[n] for n in twice], [weights[n] for n in twice], between)
    return total + stacked_norm_sum(mix[np.asarray(twice)], second, eps)


def _halves(
    number: int,
    ops: Sequence[SepConv | DilConv],
    weights: Sequence[PyTree],
    images: Sequence[Array],
) -> Array:
    """[N, B, h, w, C]: the first or the second half of each op, but for its norm."""
    stride, dilation = (
        (ops[0].stride, [op.dilation for op in ops]) if number == 0 else (1, [1] * len(ops))
    )
    filters, kernels = (
        [own[f"{kind}_{number}"]["kernel"] for own in weights]
        for kind in ("DepthwiseConv", "Dense")
    )
    convs = [
        depthwise_conv(x, one, stride, own, relu=True)
        for x, one, own in zip(images, filters, dilation, strict=True)
    ]
    return jax.vmap(pointwise_product)(jnp.stack(convs), jnp.stack(kernels))
