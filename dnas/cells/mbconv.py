"""Inverted residual blocks, the candidates of layer-wise spaces, and the dict BLOCKS that
holds a record of each.

Every block is built as `BLOCKS[name](channels=C, stride=s, norms=norms)` and maps images [B, H, W,
C_in], of any C_in, to [B, ceil(H/s), ceil(W/s), C]; in training it may also be given a drop path
rate. MobileNetV2, https://arxiv.org/abs/1801.04381; in groups with a channel shuffle as in FBNet,
https://arxiv.org/abs/1812.03443.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.cells.chosen import drop_samples
from dnas.cells.init import conv_init
from dnas.cells.mixed_op import shuffle
from dnas.cells.norms import Norms
from dnas.cells.ops import DepthwiseConv, pointwise
from dnas.kernels.convolutions import depthwise_conv, every_pixel


class Pointwise(nn.Module):
    """A 1x1 convolution without bias, in which each group of outputs reads one group of inputs."""

    channels: int
    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param(
            "kernel", conv_init, (x.shape[-1] // self.groups, self.channels), x.dtype
        )
        return grouped_product(x, kernel, self.groups)


def grouped_product(x: Array, kernel: Array, groups: int) -> Array:
    """Returns the 1x1 convolution of x [..., C] with kernel [C / groups, C'], in groups.

    Raises:
      ValueError: if the inputs or outputs cannot be split in so many groups.
    """
    if groups == 1:
        return x @ kernel
    if x.shape[-1] % groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"{x.shape[-1]} to {kernel.shape[-1]} channels cannot be split in {groups} groups;"
            " choose multiples"
        )
    pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([part @ own for part, own in pairs], axis=-1)


class MBConv(nn.Module):
    """1x1 convolution to `expansion` times the inputs, depthwise k x k, 1x1 convolution; plus its
    input where sizes agree.

    A norm follows each convolution, and an activation the first two norms. With groups both 1x1
    convolutions have them, and channels are shuffled after the first.

    Args:
      expand_ones: whether there is a first convolution where `expansion` is 1, as in FBNet;
        MobileNetV2 and ProxylessNAS leave it out.
    """

    channels: int
    stride: int
    norms: Norms
    kernel: int
    expansion: int
    groups: int = 1
    activation: Callable[[Array], Array] = nn.relu
    expand_ones: bool = True

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float | None = None) -> Array:
        """Returns [B, ceil(H/s), ceil(W/s), channels]; drop_path is a rate, None for none."""
        y = x
        if self.expands:
            y = self.norms.conv()(
                Pointwise(self.expansion * x.shape[-1], self.groups, name="expand")(y)
            )
            y = shuffle(y, self.groups) if self.groups > 1 else y
            y = y if self.relu else self.activation(y)
        y = self.norms.conv()(
            DepthwiseConv(self.kernel, self.stride, relu=self.relu, name="depthwise")(y)
        )
        y = self.norms.conv()(
            Pointwise(self.channels, self.groups, name="project")(self.activation(y))
        )
        if not keeps_size(self, x):
            return y
        return x + (
            y if drop_path is None else drop_samples(self.make_rng("drop_path"), y, drop_path)
        )

    @property
    def expands(self) -> bool:
        return self.expansion > 1 or self.expand_ones

    @property
    def relu(self) -> bool:
        """Whether the depthwise convolution takes the ReLU in front of it, where it costs
        nothing."""
        return self.expands and self.activation is nn.relu


def run_together(
    norm: Callable[[Array], Array], blocks: Sequence[MBConv], weights: Sequence[PyTree], x: Array
) -> list[Array]:
    """Returns what each of several expanding blocks makes of x, without the x that it adds.

    They run as one block of all their channels, which compiles in a fraction of the time and
    computes the same, since a norm, like a depthwise convolution, treats each channel by itself.

    Args:
      norm: that of the blocks, without parameters.
      blocks: which differ in expansion and groups only; weights: of each.
    """
    first = blocks[0]
    parts = [
        grouped_product(x, own["expand"]["kernel"], block.groups)
        for block, own in zip(blocks, weights, strict=True)
    ]
    parts = [
        shuffle(part, block.groups) if block.groups > 1 else part
        for block, part in zip(blocks, parts, strict=True)
    ]
    y = norm(jnp.concatenate(parts, axis=-1))
    y = y if first.relu else first.activation(y)
    kernel = jnp.concatenate([own["depthwise"]["kernel"] for own in weights], axis=-1)
    y = first.activation(norm(depthwise_conv(y, kernel, first.stride, 1, first.relu)))
    parts = jnp.split(y, np.cumsum([part.shape[-1] for part in parts])[:-1], axis=-1)
    parts = [
        grouped_product(part, own["project"]["kernel"], block.groups)
        for block, own, part in zip(blocks, weights, parts, strict=True)
    ]
    return jnp.split(norm(jnp.concatenate(parts, axis=-1)), len(blocks), axis=-1)


class Skip(nn.Module):
    """The input, or where its size or channels change, 1x1 convolution, norm and activation, as
    FBNet's released code."""

    channels: int
    stride: int
    norms: Norms
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Array, drop_path: Array | float | None = None) -> Array:
        """Returns [B, ceil(H/s), ceil(W/s), channels]; drop path leaves it alone."""
        del drop_path
        if keeps_size(self, x):
            return x
        return self.activation(
            self.norms.conv()(pointwise(self.channels)(every_pixel(x, self.stride)))
        )


def keeps_size(block: MBConv | Skip, x: Array) -> bool:
    """Whether the output of the block has the shape of its input, so that it is added."""
    return block.stride == 1 and x.shape[-1] == block.channels


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "relu6": nn.relu6}


@dataclasses.dataclass(frozen=True)
class Block:
    """All that is known of a candidate of a layer. Called, it is `make`.

    Args:
      make: (channels=, stride=, norms=) -> flax module, x [B, H, W, C_in] -> y [B, h, w, channels].
      keys: what tells its parts in a hardware table apart from others of its name, sorted.
      skips: it hands its input on where size and channels stay.
    """

    make: Callable[..., nn.Module]
    keys: tuple[tuple[str, int | str], ...] = ()
    skips: bool = False

    def __call__(self, **fields: Any) -> nn.Module:
        return self.make(**fields)


def mbconv(
    kernel: int,
    expansion: int,
    *,
    groups: int = 1,
    activation: str = "relu",
    expand_ones: bool = True,
) -> Block:
    """Returns an inverted residual block, see `MBConv`; `activation` is a name in `ACTIVATIONS`."""
    form = dict(kernel=kernel, expansion=expansion, groups=groups, expand_ones=expand_ones)
    keys = activation_keys(activation)
    if expansion == 1 and not expand_ones:
        keys += (("expand_ones", 0),)
    return Block(partial(MBConv, **form, activation=ACTIVATIONS[activation]), keys)


def skip(*, activation: str = "relu") -> Block:
    """Returns the block without a convolution of its own, see `Skip`."""
    make = partial(Skip, activation=ACTIVATIONS[activation])
    return Block(make, activation_keys(activation), skips=True)


def activation_keys(activation: str) -> tuple[tuple[str, int | str], ...]:
    """Returns the keys of parts with another activation than ReLU."""
    return () if activation == "relu" else (("activation", activation),)


def blocks_of(
    names: Sequence[str], *, activation: str = "relu", expand_ones: bool = True
) -> dict[str, Block]:
    """Returns blocks by name: "skip_connect", and kK_eE with a K x K kernel and expansion E, with
    _gG in G groups.

    Example:
      >>> blocks_of(["k3_e1", "skip_connect"], expand_ones=False)["k3_e1"].keys
      (('expand_ones', 0),)
    """
    found = {}
    for name in names:
        if name == "skip_connect":
            found[name] = skip(activation=activation)
        else:
            kernel, expansion, *groups = (int(part[1:]) for part in name.split("_"))
            found[name] = mbconv(
                kernel,
                expansion,
                groups=groups[0] if groups else 1,
                activation=activation,
                expand_ones=expand_ones,
            )
    return found


BLOCKS: dict[str, Block] = blocks_of(
    [
        "skip_connect",
        *(f"k{kernel}_e{expansion}" for kernel in (3, 5, 7) for expansion in (1, 3, 6)),
        "k3_e1_g2",
        "k5_e1_g2",
    ]
)
