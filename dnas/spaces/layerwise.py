"""Layer-wise search spaces: a chain of layers, each of which chooses one of several blocks.

The one kind of "cell" is "layers": its E edges are the layers, its O ops the candidate blocks.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from dnas.base import Array, PyTree
from dnas.cells.layers import MOST_CHANNELS, STEMS, sides, strided
from dnas.cells.layerwise_parts import around_parts, block_part, part_modules
from dnas.cells.mbconv import ACTIVATIONS, Block
from dnas.cells.networks import make_network, make_supernet
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.parts import part_network
from dnas.cells.trunk import (
    Chain,
    ChosenLayers,
    MixedLayers,
    Place,
    Sizes,
    Stage,
    Trunk,
    alike,
    stack_name,
)
from dnas.checks import at_least, checked, one_of
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.model import Model
from dnas.parts import LayerParts, NetworkParts, Part, PartNetwork
from dnas.space import LayerSpec, SearchSpace, check_genotype

__all__ = ["Chain", "Stage", "layerwise_space", "rounded"]

KIND = "layers"


@checked
def layerwise_space(
    name: str,
    chain: Chain,
    blocks: Mapping[str, Block],
    *,
    inside: Sequence[str] = (),
    width: float = 1.0,
) -> SearchSpace:
    """Returns the space in which each layer of a chain is one of the blocks.

    `channels` of its networks are those of the stem before the multiplier: with half of
    `chain.stem` all widths are halved, each rounded to a multiple of 8 as in MobileNetV2;
    `num_cells` is the number of layers, which is fixed. The stem "imagenet" has the published
    strides; "cifar", for small images, has stride 1 in the stem and in the first stage that would
    stride. Images may have any size: a stride rounds up.

    Its supernet takes `stem`, `sampled` (run only the block of the largest weight), `remat`
    (compute each layer again for the gradient instead of keeping what nine blocks computed) and
    `dtype`; its network `remat`, `dtype` and, as the supernet's weights are under norms without
    state, `norms`.

    Args:
      blocks: {name: block}, one a column of arch.
      inside: blocks that only the layers after the first of a stage have, such as a skip that
        cannot change width.
      width: the multiplier.

    Raises:
      ValueError: for a chain without layers, numbers below 1, a multiplier that is not positive, or
        unknown names.

    Example:
      >>> from dnas.cells.mbconv import BLOCKS
      >>> chain = Chain(stem=8, stages=(Stage(16, 2, 2), Stage(24, 1, 2)), head=64)
      >>> space = layerwise_space(
      ...     "tiny", chain, {name: BLOCKS[name] for name in ("k3_e3", "k5_e3", "skip_connect")}
      ... )
      >>> [
      ...     (layer.channels, layer.stride)
      ...     for layer in space.layers(channels=8, num_cells=3, image_size=32, stem="imagenet")
      ... ]
      [(16, 2), (16, 1), (24, 2)]
    """
    chain = chain._replace(stages=tuple(Stage(*stage) for stage in chain.stages))
    _check_chain(chain, blocks, inside, width)
    names = tuple(blocks)
    outside = tuple(op for op in names if op not in inside)
    own = tuple(
        names if number else outside for stage in chain.stages for number in range(stage.layers)
    )
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
                f"the space {name!r} has {number} layers, and num_cells is their number; got"
                f" {num_cells}. Make a space of other length with the `stages` of its factory"
            )
        one_of(STEMS, stem=stem)
        at_least(1, most=MOST_CHANNELS, channels=channels)
        candidates = [tuple((op, blocks[op]) for op in ops) for ops in own]
        return _sizes(chain, width * channels / chain.stem, stem, candidates)

    @checked
    def layers(
        *, channels: int, num_cells: int, image_size: int | tuple[int, int], stem: str = "cifar"
    ):
        sizes = sizes_of(channels, num_cells, stem)
        size = sides(image_size)
        if min(size) < 1:
            raise ValueError(f"images have at least one pixel a side, got {size[0]}x{size[1]}")
        size, found = strided(size, sizes.stem_stride), []
        for place in sizes.places:
            found.append(LayerSpec(KIND, place.channels, place.stride, size))
            size = strided(size, place.stride)
        return tuple(found)

    @checked
    def supernet(
        *,
        channels: int = chain.stem,
        num_cells: int = number,
        num_classes: int = 10,
        stem: str = "cifar",
        sampled: bool = False,
        remat: bool = True,
        norms: Norms | None = None,
        dtype=None,
    ) -> Model:
        at_least(1, num_classes=num_classes)
        norms = search_norms() if norms is None else norms
        sizes = sizes_of(channels, num_cells, stem)
        module = _trunk(
            sizes,
            chain,
            num_classes,
            norms,
            MixedLayers(sizes.places, names, norms, sampled, remat),
        )

        return make_supernet(
            lambda mix: module, {KIND: spec}, args=lambda mix: (mix[KIND],), dtype=dtype
        )

    @checked
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
    ) -> Model:
        check_genotype(space, genotype)
        at_least(1, num_classes=num_classes)
        if auxiliary:
            raise ValueError(
                f"the networks of the space {name!r} have no auxiliary head; leave out auxiliary"
            )
        chosen = {source: op for source, _, op in genotype.cells[KIND]}
        if len(genotype.cells[KIND]) != number:
            raise ValueError(
                f"a genotype of the space {name!r} has one block for each of {number} layers, got"
                f" {chosen}"
            )
        sizes = sizes_of(channels, num_cells, stem)
        own = [
            place._replace(blocks=((chosen[n], blocks[chosen[n]]),))
            for n, place in enumerate(sizes.places)
        ]
        return _network(sizes, chain, tuple(own), num_classes, norms, remat, dtype)

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        stacks, found = weights["layers"], {}
        for first, length in alike(sizes_of(chain.stem, number, "imagenet").places):
            for layer in range(first, first + length):
                op = next(edge.op for edge in genotype.cells[KIND] if edge.source == layer)
                stacked = stacks[stack_name(first, length)].get(op, {})
                found[f"layer_{layer}"] = jax.tree.map(
                    lambda array, place=layer - first: array[place], stacked
                )
        return {**weights, "layers": found}

    @checked
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
        return NetworkParts({KIND: spec}, fixed, (LayerParts(KIND, tuple(choices)),))

    def part_of(part: Part) -> PartNetwork:
        return part_network(part, part_modules(chain, blocks))

    space = SearchSpace(
        name,
        {KIND: spec},
        layers,
        supernet,
        network,
        channels=chain.stem,
        num_cells=number,
        final_channels=chain.stem,
        final_cells=number,
        family="chain",
        chosen_weights=chosen_weights,
        parts=parts,
        part_network=part_of,
    )
    return space


def rounded(channels: float) -> int:
    """Returns the multiple of 8 that is nearest, at least 8, and not below nine tenths of the
    number. MobileNetV2.

    Example:
      >>> [rounded(channels) for channels in (3, 16, 16 * 0.75, 24 * 0.5, 11.2)]
      [8, 16, 16, 16, 16]
    """
    found = max(8, int(channels + 4) // 8 * 8)
    return found if found >= 0.9 * channels else found + 8


def _check_chain(
    chain: Chain, blocks: Mapping[str, Block], inside: Sequence[str], width: float
) -> None:
    numbers = [chain.stem, chain.head, *(number for stage in chain.stages for number in stage)]
    if not chain.stages or min(numbers) < 1:
        raise ValueError(
            "stages are (channels, layers, stride), stem and head channels, all from 1 on; got"
            f" {chain}"
        )
    if not width > 0:
        raise ValueError(f"the width multiplier is positive, got {width}")
    if unknown := set(inside) - set(blocks):
        raise ValueError(f"{sorted(unknown)} are not among the blocks {', '.join(blocks)}")
    if not set(blocks) - set(inside):
        raise ValueError(
            f"the first layer of a stage needs a block; all of {', '.join(blocks)} are for those"
            " after it only"
        )


def _sizes(
    chain: Chain, multiplier: float, stem: str, candidates: Sequence[tuple[tuple[str, Block], ...]]
) -> Sizes:
    strides = [stage.stride for stage in chain.stages]
    if stem == "cifar" and max(strides) > 1:
        strides[next(number for number, stride in enumerate(strides) if stride > 1)] = 1
    inputs = first = rounded(multiplier * (chain.stem if chain.first is None else chain.first[2]))
    places = []
    for stage, stride in zip(chain.stages, strides, strict=True):
        for number in range(stage.layers):
            channels = rounded(multiplier * stage.channels)
            places.append(Place(inputs, channels, 1 if number else stride, candidates[len(places)]))
            inputs = channels
    stem_stride = 1 if stem == "cifar" else 2
    return Sizes(
        rounded(multiplier * chain.stem),
        stem_stride,
        first,
        rounded(multiplier * chain.head),
        tuple(places),
    )


def _trunk(sizes: Sizes, chain: Chain, num_classes: int, norms: Norms, layers: nn.Module) -> Trunk:
    return Trunk(
        sizes,
        None if chain.first is None else chain.first[1],
        ACTIVATIONS[chain.activation],
        num_classes,
        norms,
        layers,
    )


def _network(
    sizes: Sizes,
    chain: Chain,
    places: tuple[Place, ...],
    num_classes: int,
    norms,
    remat: bool,
    dtype,
) -> Model:
    def trunk(train: bool, drop_path: Array | None, auxiliary: bool) -> Trunk:
        del drop_path, auxiliary
        layers = ChosenLayers(places, norms(train), remat)
        return _trunk(sizes, chain, num_classes, norms(train), layers)

    return make_network(
        trunk, args=lambda drop_path: () if drop_path is None else (drop_path,), dtype=dtype
    )
