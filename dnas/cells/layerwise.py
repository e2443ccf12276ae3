"""Layer-wise search spaces: a chain of layers, each of which chooses one of several blocks.

The one kind of "cell" is "layers": its E edges are the layers, its O ops the candidate blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array, Key, Mix, PyTree
from dnas.cells.init import TracedOnce, Unbound, apply_once, check_dtype, conv_init, in_dtype, init_variables
from dnas.cells.kernels import wide
from dnas.cells.layerwise_parts import around_parts, block_part, part_modules
from dnas.cells.macro import STEMS, Classifier
from dnas.cells.mbconv import MBConv, Skip, keeps_size, run_together
from dnas.cells.mixed import run_sampled, weighted_sum
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import pointwise
from dnas.cells.parts import part_network
from dnas.genotype import Genotype
from dnas.space import (
    CellSpec,
    LayerParts,
    LayerSpec,
    Network,
    NetworkParts,
    Part,
    PartNetwork,
    SearchSpace,
    Supernet,
    check_genotype,
)

KIND = "layers"

Block = Callable[..., nn.Module]  # (channels=, stride=, norms=) -> module, see `dnas.cells.mbconv`


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
    first: tuple[Block, int] | None = None  # a fixed block after the stem, and its channels
    activation: Callable[[Array], Array] = nn.relu


class Place(NamedTuple):
    """Of a layer in a network."""

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


def layerwise_space(
    name: str,
    chain: Chain,
    blocks: Mapping[str, Block],
    *,
    inside: Sequence[str] = (),
    width: float = 1.0,
) -> SearchSpace:
    """Returns the space in which each layer of a chain is one of the blocks.

    `channels` of its networks are those of the stem before the multiplier: with half of `chain.stem` all widths are halved,
    each rounded to a multiple of 8 as in MobileNetV2; `num_cells` is the number of layers, which is fixed. The stem "imagenet"
    has the published strides; "cifar", for small images, has stride 1 in the stem and in the first stage that would stride.
    Images may have any size: a stride rounds up.

    Its supernet takes `stem`, `sampled` (run only the block of the largest weight), `remat` (compute each layer again for the
    gradient instead of keeping what nine blocks computed) and `dtype`; its network `remat`, `dtype` and, as the supernet's
    weights are under norms without state, `norms`.

    Args:
      blocks: {name: block}, one a column of arch.
      inside: blocks that only the layers after the first of a stage have, such as a skip that cannot change width.
      width: the multiplier.

    Raises:
      ValueError: for a chain without layers, numbers below 1, a multiplier that is not positive, or unknown names.

    Example:
      >>> from dnas.cells.mbconv import BLOCKS
      >>> chain = Chain(stem=8, stages=(Stage(16, 2, 2), Stage(24, 1, 2)), head=64)
      >>> space = layerwise_space("tiny", chain, {name: BLOCKS[name] for name in ("k3_e3", "k5_e3", "skip_connect")})
      >>> [(layer.channels, layer.stride) for layer in space.layers(channels=8, num_cells=3, image_size=32, stem="imagenet")]
      [(16, 2), (16, 1), (24, 2)]
    """
    chain = chain._replace(stages=tuple(Stage(*stage) for stage in chain.stages))
    _check_chain(chain, blocks, inside, width)
    names = tuple(blocks)
    outside = tuple(op for op in names if op not in inside)
    own = tuple(names if number else outside for stage in chain.stages for number in range(stage.layers))
    number = len(own)
    spec = CellSpec(
        num_inputs=1,
        num_nodes=number,
        edges=tuple((layer, layer + 1) for layer in range(number)),
        ops=names,
        concat=(number,),
        edge_ops=own if inside else None,
    )

    def sizes_of(channels: int, num_cells: int, stem: str) -> Sizes:
        if num_cells != number:
            raise ValueError(
                f"the space {name!r} has {number} layers, and num_cells is their number; got {num_cells}. Make a space of "
                "other length with the `stages` of its factory"
            )
        if stem not in STEMS:
            raise ValueError(f"stem {stem!r} does not exist; choose from: {', '.join(STEMS)}")
        if channels < 1:
            raise ValueError(f"a network needs at least one channel, got {channels}")
        candidates = [tuple((op, blocks[op]) for op in ops) for ops in own]
        return _sizes(chain, width * channels / chain.stem, stem, candidates)

    def layers(*, channels: int, num_cells: int, image_size: int | tuple[int, int], stem: str = "cifar"):
        sizes = sizes_of(channels, num_cells, stem)
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if min(size) < 1:
            raise ValueError(f"images have at least one pixel a side, got {size[0]}x{size[1]}")
        size, found = _strided(size, sizes.stem_stride), []
        for place in sizes.places:
            found.append(LayerSpec(KIND, place.channels, place.stride, size))
            size = _strided(size, place.stride)
        return tuple(found)

    def supernet(
        *,
        channels: int = chain.stem,
        num_cells: int = number,
        num_classes: int = 10,
        stem: str = "cifar",
        sampled: bool = False,
        remat: bool = True,
        dtype=None,
    ) -> Supernet:
        check_dtype(dtype)
        norms = search_norms()
        sizes = sizes_of(channels, num_cells, stem)
        module = Trunk(sizes, chain, num_classes, norms, MixedLayers(sizes.places, names, norms, sampled, remat))

        def init(key: Key, images: Array) -> PyTree:
            return init_variables(module, key, images)["params"]

        def apply(weights: PyTree, mix: Mix, images: Array) -> Array:
            weights, images = in_dtype(dtype, (weights, images))
            return module.apply({"params": weights}, images, mix[KIND])

        return Supernet(init, apply)

    def network(
        genotype: Genotype,
        *,
        channels: int = chain.stem,
        num_cells: int = number,
        num_classes: int = 10,
        stem: str = "cifar",
        auxiliary: bool = False,
        norms=final_norms,
        remat: bool = False,
        dtype=None,
    ) -> Network:
        check_genotype(space, genotype)
        check_dtype(dtype)
        if auxiliary:
            raise ValueError(f"the networks of the space {name!r} have no auxiliary head; leave out auxiliary")
        chosen = {source: op for source, _, op in genotype.cells[KIND]}
        if len(genotype.cells[KIND]) != number:
            raise ValueError(f"a genotype of the space {name!r} has one block for each of {number} layers, got {chosen}")
        sizes = sizes_of(channels, num_cells, stem)
        own = [place._replace(blocks=((chosen[n], blocks[chosen[n]]),)) for n, place in enumerate(sizes.places)]
        return _network(sizes, chain, tuple(own), num_classes, norms, remat, dtype)

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        stacks, found = weights["layers"], {}
        for first, length in _alike(sizes_of(chain.stem, number, "imagenet").places):
            for layer in range(first, first + length):
                op = next(edge.op for edge in genotype.cells[KIND] if edge.source == layer)
                stacked = stacks[_name(first, length)].get(op, {})
                found[f"layer_{layer}"] = jax.tree.map(lambda array, place=layer - first: array[place], stacked)
        return {**weights, "layers": found}

    def parts(
        *,
        channels: int = chain.stem,
        num_cells: int = number,
        num_classes: int = 10,
        image_size: int | tuple[int, int] = 32,
        image_channels: int = 3,
        stem: str = "cifar",
    ) -> NetworkParts:
        own = layers(channels=channels, num_cells=num_cells, image_size=image_size, stem=stem)
        sizes = sizes_of(channels, num_cells, stem)
        choices = []
        for place, layer in zip(sizes.places, own, strict=True):
            found = {op: block_part(op, block, place, layer.size) for op, block in place.blocks}
            choices.append(tuple(found.get(op) for op in names))
        fixed = around_parts(sizes, chain, image_channels, num_classes, image_size, own)
        return NetworkParts({KIND: spec}, fixed, (LayerParts(KIND, tuple(choices)),), None)

    def part_of(part: Part) -> PartNetwork:
        return part_network(part, part_modules(chain, blocks))

    space = SearchSpace(
        name,
        {KIND: spec},
        layers,
        supernet,
        network,
        edges_per_node=None,
        channels=chain.stem,
        num_cells=number,
        final_channels=chain.stem,
        final_cells=number,
        chosen_weights=chosen_weights,
        parts=parts,
        part_network=part_of,
    )
    return space


def rounded(channels: float) -> int:
    """Returns the multiple of 8 that is nearest, at least 8, and not below nine tenths of the number. MobileNetV2.

    Example:
      >>> [rounded(channels) for channels in (3, 16, 16 * 0.75, 24 * 0.5, 11.2)]
      [8, 16, 16, 16, 16]
    """
    found = max(8, int(channels + 4) // 8 * 8)
    return found if found >= 0.9 * channels else found + 8


def _check_chain(chain: Chain, blocks: Mapping[str, Block], inside: Sequence[str], width: float) -> None:
    numbers = [chain.stem, chain.head, *(number for stage in chain.stages for number in stage)]
    if not chain.stages or min(numbers) < 1:
        raise ValueError(f"stages are (channels, layers, stride), stem and head channels, all from 1 on; got {chain}")
    if not width > 0:
        raise ValueError(f"the width multiplier is positive, got {width}")
    if unknown := set(inside) - set(blocks):
        raise ValueError(f"{sorted(unknown)} are not among the blocks {', '.join(blocks)}")
    if not set(blocks) - set(inside):
        raise ValueError(f"the first layer of a stage needs a block; all of {', '.join(blocks)} are for those after it only")


def _sizes(chain: Chain, multiplier: float, stem: str, candidates: Sequence[tuple[tuple[str, Block], ...]]) -> Sizes:
    strides = [stage.stride for stage in chain.stages]
    if stem == "cifar" and max(strides) > 1:
        strides[next(number for number, stride in enumerate(strides) if stride > 1)] = 1
    inputs = first = rounded(multiplier * (chain.stem if chain.first is None else chain.first[1]))
    places = []
    for stage, stride in zip(chain.stages, strides, strict=True):
        for number in range(stage.layers):
            channels = rounded(multiplier * stage.channels)
            places.append(Place(inputs, channels, 1 if number else stride, candidates[len(places)]))
            inputs = channels
    stem_stride = 1 if stem == "cifar" else 2
    return Sizes(rounded(multiplier * chain.stem), stem_stride, first, rounded(multiplier * chain.head), tuple(places))


def _strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


class Trunk(nn.Module):
    """Stem, layers, head and classifier; `layers` is called with the images and what else this one is called with."""

    sizes: Sizes
    chain: Chain
    num_classes: int
    norms: Norms
    layers: nn.Module

    @nn.compact
    def __call__(self, images: Array, *args) -> Array:
        """Returns logits [B, num_classes], float32 or wider, for images [B, H, W, C]."""
        sizes, stride = self.sizes, self.sizes.stem_stride
        convolution = nn.Conv(sizes.stem, (3, 3), stride, [(1, 1)] * 2, use_bias=False, kernel_init=conv_init, name="stem")
        x = self.chain.activation(self.norms.stem()(convolution(images)))
        if self.chain.first is not None:
            x = self.chain.first[0](channels=sizes.first, stride=1, norms=self.norms, name="first")(x)
        x = self.layers(x, *args)
        x = self.chain.activation(self.norms.stem()(pointwise(sizes.head)(x)))
        return Classifier(self.num_classes, name="classifier")(x.mean((1, 2), dtype=wide(x.dtype)))


class MixedBlock(nn.Module):
    """The weighted sum of all candidates of a layer, or with `sampled` only that of the largest weight."""

    place: Place
    norms: Norms
    sampled: bool

    @nn.compact
    def __call__(self, x: Array, mix: Array) -> Array:
        """Returns [B, H/s, W/s, C] for x [B, H, W, C] and mix [O], or [O, B] where every sample has its own."""
        sizes = dict(channels=self.place.channels, stride=self.place.stride, norms=self.norms)
        if self.is_initializing():
            return sum(block(**sizes, name=op)(x) for op, block in self.place.blocks)
        modules = [block(**sizes, parent=None) for _, block in self.place.blocks]
        if self.sampled:
            return self._sample(modules, x, mix)
        return self._sum(modules, x, mix)

    def _own(self, number: int) -> PyTree:
        return self.variables.get("params", {}).get(self.place.blocks[number][0], {})

    def _sample(self, modules: Sequence[nn.Module], x: Array, mix: Array) -> Array:
        if mix.ndim != 1:
            raise ValueError("a sampled path is one for the whole batch; with a mix for each sample give sampled=False")

        def branch(number, module):
            return lambda weights, x: module.apply({"params": weights[number]}, x)

        weights = tuple(self._own(number) for number in range(len(modules)))
        return run_sampled(tuple(branch(*pair) for pair in enumerate(modules)), jnp.argmax(mix), weights, mix, x)

    def _sum(self, modules: Sequence[nn.Module], x: Array, mix: Array) -> Array:
        together: dict[int, list[int]] = {}  # by kernel size
        adding = []  # blocks whose output holds x itself
        arrays: dict[int, Array] = {}
        for number, module in enumerate(modules):
            if isinstance(module, MBConv) and module.expands:
                together.setdefault(module.kernel, []).append(number)
                adding += [number] * keeps_size(module, x)
            elif isinstance(module, Skip) and keeps_size(module, x):
                adding.append(number)
            else:
                arrays[number] = module.apply({"params": self._own(number)}, x)
        for numbers in together.values():
            own = [self._own(number) for number in numbers]
            blocks = [modules[number] for number in numbers]
            arrays |= zip(numbers, run_together(lambda y: self.norms.conv()(y), blocks, own, x), strict=True)
        rows = [mix[number] for number in arrays]
        if adding:
            rows.append(mix[np.asarray(adding)].sum(0))
        return weighted_sum(jnp.stack(rows), [*arrays.values(), *([x] if adding else [])])


class MixedLayers(nn.Module):
    """The layers of the supernet.

    Neighbours that are alike run in one loop, which is compiled once: of 22 layers 12 are compiled. Their weights are stacked:
    "layers_a_b" holds {op: arrays [b - a + 1, ...]}.
    """

    places: tuple[Place, ...]
    ops: tuple[str, ...]  # the columns of a mix
    norms: Norms
    sampled: bool
    remat: bool

    @nn.compact
    def __call__(self, x: Array, mix: Array | None = None) -> Array:
        """Returns [B, h, w, C] for x [B, H, W, C'] and mix [E, O] or [E, O, B], which initialisation does without."""
        for first, length in _alike(self.places):
            place = self.places[first]
            mixed = MixedBlock(place, self.norms, self.sampled, parent=None)
            if self.is_initializing():
                self._make_weights(_name(first, length), mixed, length, x)
                x = jnp.zeros((len(x), *_strided(x.shape[1:3], place.stride), place.channels), x.dtype)
                continue
            weights = self.get_variable("params", _name(first, length))
            rows = mix[first : first + length, np.asarray([self.ops.index(op) for op, _ in place.blocks])]
            run = partial(_run, mixed)
            run = jax.checkpoint(run) if self.remat else run
            if length == 1:
                x = run(jax.tree.map(lambda array: array[0], weights), rows[0], x)
            else:
                x = lax.scan(lambda x, own, run=run: (run(*own, x), None), x, (weights, rows))[0]
        return x

    def _make_weights(self, name: str, mixed: MixedBlock, length: int, x: Array) -> None:
        keys, row = jax.random.split(self.make_rng("params"), length), jnp.zeros(len(mixed.place.blocks), x.dtype)
        self.put_variable("params", name, jax.vmap(lambda key: mixed.init(key, x, row))(keys)["params"])


def _run(mixed: MixedBlock, weights: PyTree, row: Array, x: Array) -> Array:
    return mixed.apply({"params": weights}, x, row)


def _alike(places: Sequence[Place]) -> list[tuple[int, int]]:
    """(first, length) of the runs of layers that are equal and keep size and width."""
    runs: list[tuple[int, int]] = []
    for number, place in enumerate(places):
        if runs and place == places[number - 1] and place.stride == 1 and place.inputs == place.channels:
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs


def _name(first: int, length: int) -> str:
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
            module = block(channels=place.channels, stride=place.stride, norms=self.norms, parent=None)
            step = TracedOnce(Unbound(module), name=f"layer_{number}")
            if self.is_initializing() or not self.remat:
                x = step(x, *drop_path)
                continue
            x, changed = _checkpointed(module, step.own(), step.rngs(), x, *drop_path)
            step.keep(changed)
        return x


_checkpointed = jax.checkpoint(apply_once, static_argnums=0)


def _network(sizes: Sizes, chain: Chain, places: tuple[Place, ...], num_classes: int, norms, remat: bool, dtype) -> Network:
    def trunk(train: bool) -> Trunk:
        return Trunk(sizes, chain, num_classes, norms(train), ChosenLayers(places, norms(train), remat))

    def init(key: Key, images: Array) -> PyTree:
        return init_variables(trunk(True), key, images)

    def apply(variables: PyTree, images: Array, train: bool, key: Key, drop_path: Array | float = 0.0) -> tuple[Array, PyTree]:
        weights, images = in_dtype(dtype, (variables["params"], images))
        collections = {**variables, "params": weights}
        if not train:
            return trunk(False).apply(collections, images), variables
        drops = not isinstance(drop_path, (int, float)) or drop_path > 0
        args, rngs = ((jnp.asarray(drop_path),), {"drop_path": key}) if drops else ((), {})
        logits, averages = trunk(True).apply(collections, images, *args, rngs=rngs, mutable=["batch_stats"])
        return logits, {**variables, **averages}

    return Network(init, apply)
