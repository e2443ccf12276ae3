"""The candidate ops, one flax module each, and the dict OPS that holds a record of each.

Every op is built as `OPS[name](channels=C, stride=s, norms=norms)` and maps images [B, H, W, C] to
[B, ceil(H/s), ceil(W/s), C]. `norms` says which norms it gets, so that the same op serves the
supernet, whose norms are stateless, and the final network. Convolutions have no bias, but for
`NorConv`. DARTS, section 3.1 and appendix A.1, https://arxiv.org/abs/1806.09055; structure and
order as in quark0/darts, cnn/operations.py.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array
from dnas.cells.init import bias_init, conv_init, forget_modules
from dnas.cells.norms import BatchNorm, Norms, Output, uses_batch_only
from dnas.kernels.backend import on_cpu
from dnas.kernels.convolutions import conv3x3, depthwise_conv, every_pixel, pointwise_product
from dnas.kernels.pooling import avg_pool, max_pool
from dnas.kernels.separable import Separable

_SIDES = 4  # of a padded image that a dilated 5x5 convolution can read


def conv(channels: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv:
    """Returns a square convolution without bias, padded by `padding` on every side."""
    sides = [(padding, padding)] * 2
    return nn.Conv(channels, (kernel, kernel), stride, sides, use_bias=False, kernel_init=conv_init)


def pointwise(channels: int) -> nn.Dense:
    """Returns a 1x1 convolution without bias: in NHWC it is a matrix product over the last axis."""
    return nn.Dense(channels, use_bias=False, kernel_init=conv_init, dot_general=_pointwise_dot)


def _pointwise_dot(x: Array, kernel: Array, dimension_numbers, precision=None) -> Array:
    del dimension_numbers, precision  # those of a product over the last axis
    return pointwise_product(x, kernel)


class DepthwiseConv(nn.Module):
    """One k x k filter a channel, padded so that stride 1 keeps the size."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    relu: bool = False  # whether a ReLU comes first, see `depthwise_conv`
    sides: int | None = None  # how wide a border of zeros, if wider than it needs

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param(
            "kernel", conv_init, (self.kernel, self.kernel, 1, x.shape[-1]), x.dtype
        )
        return depthwise_conv(x, kernel, self.stride, self.dilation, self.relu, self.sides)


def _first_conv(kernel: int, stride: int, dilation: int, norms: Norms) -> DepthwiseConv:
    """Returns the convolution that reads the input of an op. Those of a mixed op share one padded
    image, on a CPU."""
    shares = norms.mixed and dilation * (kernel // 2) <= _SIDES and on_cpu()
    return DepthwiseConv(kernel, stride, dilation, relu=True, sides=_SIDES if shares else None)


class DenseConv(nn.Module):
    """A 3x3 convolution of stride 1 without bias, padded to keep the size."""

    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return conv3x3(
            x, self.param("kernel", conv_init, (3, 3, x.shape[-1], self.channels), x.dtype)
        )


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, norm: brings the input of a cell to its channel count."""

    channels: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Output:
        return self.norms.conv()(pointwise(self.channels)(nn.relu(x)))


class FactorizedReduce(nn.Module):
    """Halves height and width: two strided 1x1 convolutions, the second one pixel off,
    concatenated, then a norm.

    Raises:
      ValueError: if height, width or channels are odd, since neither half would fit the other.
    """

    channels: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Output:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            raise ValueError(
                f"images of {height}x{width} cannot be halved; resize or pad the input so that each"
                " reduction finds an even height and width (32x32 has five halvings, 28x28 two)"
            )
        if self.channels % 2:
            raise ValueError(
                f"{self.channels} channels cannot be split in two halves; choose an even number of"
                " channels"
            )
        x = nn.relu(x)
        half = partial(pointwise, self.channels // 2)
        both = [half()(every_pixel(x, 2, first)) for first in (0, 1)]
        return self.norms.last()(jnp.concatenate(both, axis=-1))


class Zero(nn.Module):
    """The op `none`: no connection."""

    channels: int
    stride: int
    norms: Norms

    def __call__(self, x: Array) -> Array:
        return jnp.zeros_like(x[:, :: self.stride, :: self.stride])


class Identity(nn.Module):
    """Its input. Drop path leaves it alone."""

    def __call__(self, x: Array) -> Array:
        return x


def skip_connect(channels: int, stride: int, norms: Norms, name: str | None = None) -> nn.Module:
    """Returns the identity, or `FactorizedReduce` where the edge strides."""
    return Identity(name=name) if stride == 1 else FactorizedReduce(channels, norms, name=name)


class Pool(nn.Module):
    """3x3 pooling; padding never counts in a mean. In a supernet a norm follows, in the final
    network none."""

    channels: int
    stride: int
    norms: Norms
    pool: Callable[..., Array]

    @nn.compact
    def __call__(self, x: Array) -> Output:
        return self.norms.last("pool")(self.pool(x, self.stride))


class SepConv(nn.Module):
    """ReLU, depthwise, pointwise, norm, twice; the stride is in the first half.

    Written once more in `dnas.kernels.separable`, as `DilConv` is, by the names of its weights.
    """

    channels: int
    stride: int
    norms: Norms
    kernel: int

    @nn.compact
    def __call__(self, x: Array) -> Output:
        x = _first_conv(self.kernel, self.stride, 1, self.norms)(x)
        x = self.norms.conv()(pointwise(self.channels)(x))
        x = DepthwiseConv(self.kernel, 1, relu=True)(x)
        return self.norms.last()(pointwise(self.channels)(x))


class DilConv(nn.Module):
    """ReLU, depthwise with dilation 2, pointwise, norm."""

    channels: int
    stride: int
    norms: Norms
    kernel: int

    @nn.compact
    def __call__(self, x: Array) -> Output:
        x = _first_conv(self.kernel, self.stride, 2, self.norms)(x)
        return self.norms.last()(pointwise(self.channels)(x))


class SharpSepConv(nn.Module):
    """Two separable convolutions with another width between them; stride and dilation are in the
    first.

    sharpDARTS, https://arxiv.org/abs/1903.09900. Its "flood" is four times as wide in the middle,
    its "choke" 32 channels; with the width of the ends and no dilation it is `SepConv`.
    """

    channels: int
    stride: int
    norms: Norms
    kernel: int
    dilation: int
    middle: Callable[[int], int]  # channels -> channels between the two

    @nn.compact
    def __call__(self, x: Array) -> Output:
        x = _first_conv(self.kernel, self.stride, self.dilation, self.norms)(x)
        x = self.norms.conv()(pointwise(self.middle(self.channels))(x))
        x = DepthwiseConv(self.kernel, 1, relu=True)(x)
        return self.norms.last()(pointwise(self.channels)(x))


class NorConv(nn.Module):
    """ReLU, convolution, norm. NAS-Bench-201, section 2.1, https://arxiv.org/abs/2001.00326.

    As in its released code, the convolution has a bias exactly where the norm has no shift.
    """

    channels: int
    stride: int
    norms: Norms
    kernel: int

    @nn.compact
    def __call__(self, x: Array) -> Output:
        norm = self.norms.last()
        fan_in = self.kernel**2 * x.shape[-1]
        x = nn.relu(x)
        if self.kernel == 1:
            y = pointwise(self.channels)(every_pixel(x, self.stride))
        elif self.kernel == 3 and self.stride == 1 and on_cpu():
            y = DenseConv(self.channels, name="Conv_0")(x)
        else:
            y = conv(self.channels, self.kernel, self.stride, self.kernel // 2)(x)
        if not (isinstance(norm, BatchNorm) and norm.affine):
            bias = self.param("bias", bias_init(fan_in), (self.channels,), x.dtype)
            # The mean of the batch takes a bias away again, and its gradient is zero: neither is
            #   worth a pass over y.
            if not uses_batch_only(norm):
                y = y + bias
        return norm(y)


class Noise(nn.Module):
    """Numbers from N(0, 1) in place of its input: an op that can only harm. Space S4 of
    https://arxiv.org/abs/1909.09656.

    The original draws at every call. Here an op is a function of its weights and its input, so the
    numbers follow from the signs of the image's features and from the edge: other ones for each
    edge, image and, as features change, step, and the same when a network runs on the same image
    again. Nothing has a gradient.
    """

    channels: int
    stride: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x[:, :: self.stride, :: self.stride].shape[1:]
        # Every place has an odd number of its own; sums of whole numbers do not depend on their
        # order.
        worth = (
            2 * jnp.arange(math.prod(x.shape[1:]), dtype=jnp.uint32) * jnp.uint32(2654435761) + 1
        )
        seeds = jnp.where(x > 0, worth.reshape(x.shape[1:]), 0).sum((1, 2, 3), dtype=jnp.uint32)
        key = jax.random.fold_in(jax.random.key(0), self._edge())
        return jax.vmap(lambda seed: jax.random.normal(jax.random.fold_in(key, seed), shape))(
            seeds
        ).astype(x.dtype)

    def _edge(self):
        if self.has_variable("params", "edge"):  # of a mixed op, see `edge_numbers`
            return self.get_variable("params", "edge").astype(jnp.uint32)
        # Of a final network.
        names = [name.split("_") for name in self.path if name.startswith("edge_")]
        return _edge_number(*map(int, names[-1][1:])) if names else 0


def edge_numbers(
    ops: Sequence[str], edges: Sequence[tuple[int, int]]
) -> dict[str, dict[str, np.ndarray]]:
    """Returns what ops need beside their weights, {op: {"edge": [E]}}: which edge they are on, if
    they draw numbers."""
    return {
        op: {"edge": np.asarray([_edge_number(*edge) for edge in edges], np.float32)}
        for op in ops
        if OPS[op].draws
    }


def _edge_number(source: int, target: int) -> int:
    return 1000 * source + target


def _same(channels: int) -> int:
    return channels


def _flood(channels: int) -> int:
    return 4 * channels


def _choke(channels: int) -> int:
    return 32


@dataclasses.dataclass(frozen=True)
class Op:
    """All that is known of a candidate op. Called, it is `make`.

    Args:
      make: (channels=, stride=, norms=, name=) -> flax module, x [B, H, W, C] -> y [B, h, w, C].
      computes_nothing: it stands for no connection: nothing runs and nothing is counted for it.
      is_identity: stride -> whether it hands its input on as it is; drop path leaves it alone then.
      begins_with_relu: stride -> whether it reads its input through a ReLU and in no other way, so
        that a runtime computes this ReLU once for all ops that read a node.
      without_weights: it has no weights, so that on every edge that leaves a node it makes the same
        of it, up to its last norm.
      separable: how it runs together with others of its kind; None for an op that runs alone.
      draws: it draws numbers that depend on its edge, and is given "edge" beside its weights.
    """

    make: Callable[..., nn.Module]
    computes_nothing: bool = False
    is_identity: Callable[[int], bool] = lambda stride: False
    begins_with_relu: Callable[[int], bool] = lambda stride: False
    without_weights: bool = False
    separable: Separable | None = None
    draws: bool = False

    def __call__(self, **fields: Any) -> nn.Module:
        return self.make(**fields)


class _Ops(dict[str, Op]):
    """{name: record}. A flax module that is put in is taken for an op of which no more is known."""

    def __setitem__(self, name: str, op: Op | Callable[..., nn.Module]) -> None:
        replaced = name in self  # as where a cell of a notebook runs again
        super().__setitem__(name, op if isinstance(op, Op) else Op(op))
        if replaced:
            forget_modules()

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        forget_modules()


def _always(stride: int) -> bool:
    return True


def _unless_strided(stride: int) -> bool:
    return stride == 1


def _if_strided(stride: int) -> bool:
    return stride > 1


def _pool(pool: Callable[..., Array]) -> Op:
    return Op(partial(Pool, pool=pool), without_weights=True)


def _relu_op(make: Callable[..., nn.Module], separable: Separable | None = None) -> Op:
    return Op(make, begins_with_relu=_always, separable=separable)


_SEP, _DIL = Separable(dilation=1, twice=True), Separable(dilation=2, twice=False)

OPS: dict[str, Op] = _Ops(
    {
        "none": Op(Zero, computes_nothing=True),
        "max_pool_3x3": _pool(max_pool),
        "avg_pool_3x3": _pool(avg_pool),
        "skip_connect": Op(skip_connect, is_identity=_unless_strided, begins_with_relu=_if_strided),
        "sep_conv_3x3": _relu_op(partial(SepConv, kernel=3), _SEP),
        "sep_conv_5x5": _relu_op(partial(SepConv, kernel=5), _SEP),
        "dil_conv_3x3": _relu_op(partial(DilConv, kernel=3), _DIL),
        "dil_conv_5x5": _relu_op(partial(DilConv, kernel=5), _DIL),
        "noise": Op(Noise, draws=True),
        "nor_conv_1x1": _relu_op(partial(NorConv, kernel=1)),
        "nor_conv_3x3": _relu_op(partial(NorConv, kernel=3)),
        "dil_sep_conv_3x3": _relu_op(partial(SharpSepConv, kernel=3, dilation=2, middle=_same)),
        "flood_conv_3x3": _relu_op(partial(SharpSepConv, kernel=3, dilation=1, middle=_flood)),
        "dil_flood_conv_3x3": _relu_op(partial(SharpSepConv, kernel=3, dilation=2, middle=_flood)),
        "choke_conv_3x3": _relu_op(partial(SharpSepConv, kernel=3, dilation=1, middle=_choke)),
        "dil_choke_conv_3x3": _relu_op(partial(SharpSepConv, kernel=3, dilation=2, middle=_choke)),
    }
)


def nothing_of(ops: Iterable[str]) -> tuple[str, ...]:
    """Returns those of the ops that compute nothing."""
    return tuple(op for op in ops if OPS[op].computes_nothing)


def check_ops(ops: tuple[str, ...]) -> None:
    """Raises ValueError unless a space can have these candidates."""
    if isinstance(ops, str):
        raise ValueError(f"ops is a tuple of names, such as ({ops[:60]!r},), not one name")
    for op in ops:
        if op not in OPS:
            raise ValueError(
                f"op {op[:60]!r} is not in OPS; add it to cells/ops.py or choose from:"
                f" {', '.join(OPS)}"
            )
    if not set(ops) - set(nothing_of(ops)):
        raise ValueError(
            f"a space needs an op besides none, got {ops}; choose from: {', '.join(OPS)}"
        )
