"""The networks of layer-wise spaces: stem, a chain of layers, head; each layer mixes its blocks, or
has one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, PyTree, add_up
from dnas.cells.heads import Classifier
from dnas.cells.init import TracedOnce, Unbound, applied, apply_once, conv_init
from dnas.cells.layers import strided
from dnas.cells.mbconv import Block, MBConv, Skip, keeps_size, run_together
from dnas.cells.mixed_op import run_sampled
from dnas.cells.norms import Norms
from dnas.cells.ops import pointwise
from dnas.kernels.sums import weighted_sum, wide


class Stage(NamedTuple):
    """Layers of one width, of which the first may stride."""

    channels: int  # at multiplier 1
    layers: int
    stride: int = 1


class Chain(NamedTuple):
    """What the networks of a layer-wise space are made of; channels are those at multiplier 1."""

    stem: int
    stages: tuple[Stage, ...]
    head: int  # of the 1x1 convolution in front of the classifier
    # a fixed block after the stem: its name in tables, the block and its channels
    first: tuple[str, Block, int] | None = None
    activation: str = "relu"  # a name in `ACTIVATIONS`


class Place(NamedTuple):
    """A layer in a network, and its candidates."""

    inputs: int  # channels
    channels: int
    stride: int
    blocks: tuple[tuple[str, Block], ...]


class Sizes(NamedTuple):
    """Of a network: channels and strides around its layers."""

    stem: int
    stem_stride: int
    first: int
    head: int
    places: tuple[Place, ...]


class Trunk(nn.Module):
    """Stem, layers, head and classifier; `layers` is called with the images and what else this one
    is called with."""

    sizes: Sizes
    first: Block | None
    activation: Callable[[Array], Array]
    num_classes: int
    norms: Norms
    layers: nn.Module

    @nn.compact
    def __call__(self, images: Array, *args) -> Array:
        """Returns logits [B, num_classes], float32 or wider, for images [B, H, W, C]."""
        sizes, stride = self.sizes, self.sizes.stem_stride
        convolution = nn.Conv(
            sizes.stem,
            (3, 3),
            stride,
            [(1, 1)] * 2,
            use_bias=False,
            kernel_init=conv_init,
            name="stem",
        )
        x = self.activation(self.norms.stem()(convolution(images)))
        if self.first is not None:
            x = self.first(channels=sizes.first, stride=1, norms=self.norms, name="first")(x)
        x = self.layers(x, *args)
        x = self.activation(self.norms.stem()(pointwise(sizes.head)(x)))
        return Classifier(self.num_classes, name="classifier")(x.mean((1, 2), dtype=wide(x.dtype)))


class MixedBlock(nn.Module):
    """The weighted sum of all candidates of a layer, or with `sampled` only that of the largest
    weight."""

    place: Place
    norms: Norms
    sampled: bool

    @nn.compact
    def __call__(self, x: Array, mix: Array) -> Array:
        """Returns [B, H/s, W/s, C] for x [B, H, W, C] and mix [O], or [O, B] where every sample has
        its own."""
        sizes = dict(channels=self.place.channels, stride=self.place.stride, norms=self.norms)
        if self.is_initializing():
            return add_up(block(**sizes, name=op)(x) for op, block in self.place.blocks)
        modules = [block(**sizes, parent=None) for _, block in self.place.blocks]
        if self.sampled:
            return self._sample(modules, x, mix)
        return self._sum(modules, x, mix)

    def _own(self, number: int) -> PyTree:
        return self.variables.get("params", {}).get(self.place.blocks[number][0], {})

    def _sample(self, modules: Sequence[nn.Module], x: Array, mix: Array) -> Array:
        if mix.ndim != 1:
            raise ValueError(
                "a sampled path is one for the whole batch; with a mix for each sample give"
                " sampled=False"
            )

        def branch(number, module):
            return lambda weights, x: module.apply({"params": weights[number]}, x)

        weights = tuple(self._own(number) for number in range(len(modules)))
        return run_sampled(
            tuple(branch(*pair) for pair in enumerate(modules)), jnp.argmax(mix), weights, mix, x
        )

    def _sum(self, modules: Sequence[nn.Module], x: Array, mix: Array) -> Array:
        together: dict[int, list[int]] = {}  # by kernel size
        adding = []  # blocks whose output holds x itself
        arrays: dict[int, Array] = {}
        expanding: dict[int, MBConv] = {}
        for number, module in enumerate(modules):
            if isinstance(module, MBConv) and module.expands:
                together.setdefault(module.kernel, []).append(number)
                expanding[number] = module
                adding += [number] * keeps_size(module, x)
            elif isinstance(module, Skip) and keeps_size(module, x):
                adding.append(number)
            else:
                arrays[number] = applied(module, {"params": self._own(number)}, x)
        for numbers in together.values():
            own = [self._own(number) for number in numbers]
            blocks = [expanding[number] for number in numbers]
            arrays |= zip(
                numbers, run_together(lambda y: self.norms.conv()(y), blocks, own, x), strict=True
            )
        rows = [mix[number] for number in arrays]
        if adding:
            rows.append(mix[np.asarray(adding)].sum(0))
        return weighted_sum(jnp.stack(rows), [*arrays.values(), *([x] if adding else [])])


class MixedLayers(nn.Module):
    """The layers of the supernet.

    Neighbours that are alike run in one loop, which is compiled once: of 22 layers 12 are compiled.
    Their weights are stacked: "layers_a_b" holds {op: arrays [b - a + 1, ...]}.
    """

    places: tuple[Place, ...]
    ops: tuple[str, ...]  # the columns of a mix
    norms: Norms
    sampled: bool
    remat: bool

    @nn.compact
    def __call__(self, x: Array, mix: Array | None = None) -> Array:
        """Returns [B, h, w, C] for x [B, H, W, C'] and mix [E, O] or [E, O, B], which
        initialisation does without."""
        for first, length in alike(self.places):
            place = self.places[first]
            mixed = MixedBlock(place, self.norms, self.sampled, parent=None)
            if self.is_initializing():
                self._make_weights(stack_name(first, length), mixed, length, x)
                x = jnp.zeros(
                    (len(x), *strided(x.shape[1:3], place.stride), place.channels), x.dtype
                )
                continue
            if mix is None:
                raise ValueError("layers that are not being initialised need a mix [E, O]")
            weights = self.get_variable("params", stack_name(first, length))
            rows = mix[
                first : first + length, np.asarray([self.ops.index(op) for op, _ in place.blocks])
            ]
            run = partial(_run, mixed)
            run = jax.checkpoint(run) if self.remat else run
            if length == 1:
                x = run(jax.tree.map(lambda array: array[0], weights), rows[0], x)
            else:
                x = lax.scan(lambda x, own, run=run: (run(*own, x), None), x, (weights, rows))[0]
        return x

    def _make_weights(self, name: str, mixed: MixedBlock, length: int, x: Array) -> None:
        keys, row = (
            jax.random.split(self.make_rng("params"), length),
            jnp.zeros(len(mixed.place.blocks), x.dtype),
        )
        self.put_variable(
            "params", name, jax.vmap(lambda key: mixed.init(key, x, row))(keys)["params"]
        )


def _run(mixed: MixedBlock, weights: PyTree, row: Array, x: Array) -> Array:
    return applied(mixed, {"params": weights}, x, row)


def alike(places: Sequence[Place]) -> list[tuple[int, int]]:
    """Returns (first, length) of the runs of layers that are equal and keep size and width."""
    runs: list[tuple[int, int]] = []
    for number, place in enumerate(places):
        if (
            runs
            and place == places[number - 1]
            and place.stride == 1
            and place.inputs == place.channels
        ):
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs


def stack_name(first: int, length: int) -> str:
    """Returns the name of the weights of a run of layers."""
    return f"layers_{first}_{first + length - 1}"


class ChosenLayers(nn.Module):
    """The layers of a final network: of each place its one block."""

    places: tuple[Place, ...]
    norms: Norms
    remat: bool

    @nn.compact
    def __call__(self, x: Array, *drop_path: Array) -> Array:
        for number, place in enumerate(self.places):
            ((_, block),) = place.blocks
            module = block(
                channels=place.channels, stride=place.stride, norms=self.norms, parent=None
            )
            step = TracedOnce(Unbound(module), name=f"layer_{number}")
            if self.is_initializing() or not self.remat:
                x = step(x, *drop_path)
                continue
            x, changed = _checkpointed(module, step.own(), step.rngs(), x, *drop_path)
            step.keep(changed)
        return x


_checkpointed = jax.checkpoint(apply_once, static_argnums=0)
