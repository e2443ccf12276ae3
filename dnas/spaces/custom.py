"""A search space of one's own: cells, layers, and a macro network written as a plain function."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dnas.base import AnyArray, Array, Mix, PyTree, add_up
from dnas.cells.chosen import ChosenCell
from dnas.cells.edge_ops import weights_by_edge
from dnas.cells.layers import sides
from dnas.cells.mixed_cell import MixedCell, checked_schedule
from dnas.cells.networks import make_network, make_supernet
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import OPS, nothing_of
from dnas.cells.parts import begins_with_relu, edge_choices, part_network
from dnas.checks import at_least, checked
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.model import Model
from dnas.parts import LayerParts, NetworkParts, Part, PartNetwork
from dnas.space import LayerSpec, SearchSpace, check_genotype

# (images [B, H, W, C], layers, num_classes, norms, cell) -> logits [B, num_classes]
Macro = Callable[[Array, tuple[LayerSpec, ...], int, Norms, Callable[..., Array]], Array]

_AROUND = "macro_network"  # the part of a table that is everything around the cells


@checked
def custom_space(
    name: str,
    cells: Mapping[str, CellSpec],
    layers: Callable[..., tuple[LayerSpec, ...]],
    macro: Macro,
    *,
    edges_per_node: int | None = 2,
    channels: int = 16,
    num_cells: int = 8,
    final_channels: int = 36,
    final_cells: int = 20,
) -> SearchSpace:
    """Returns a search space whose supernet and networks are both built by one function, `macro`.

    Args:
      name: that genotypes of the space carry.
      cells: {kind: graph and candidates}; the ops are names in `OPS`, to which your own may be
        added.
      layers: (channels=, num_cells=, image_size=(height, width), stem=) -> a `LayerSpec` for each
        cell of the network; raises ValueError for sizes that do not fit.
      macro: (images [B, H, W, C], layers, num_classes, norms, cell) -> logits [B, num_classes]. It
        may make flax modules as a compact method does; `norms` has those for a stem and for
        convolutions; `cell(layer, *inputs)` runs the cell of a layer on inputs [B, H, W,
        layer.channels], one for each input node, and returns [B, H/s, W/s, layer.channels *
        len(concat)].
      edges_per_node: how many edges a node of a genotype keeps, in cells that do not say so with
        `keep`; None where every edge keeps an op, `none` where there is one.
      channels, num_cells, final_channels, final_cells: default sizes of supernet and final network.

    Hardware tables of the space have a row for each op at each size, and one for everything else:
    the network that `macro` makes where a cell adds up its inputs and hands them on as often as it
    has nodes to concatenate.

    Raises:
      ValueError: for an op that is not in `OPS` or has the name of the row for everything else.

    Example:
      >>> import flax.linen as nn, dnas
      >>> spec = dnas.CellSpec(1, 1, ((0, 1),), ("skip_connect", "sep_conv_3x3"), (1,))
      >>> def layers(*, channels, num_cells, image_size, stem="cifar"):
      ...     return (dnas.LayerSpec("cell", channels, 1, image_size),) * num_cells
      >>> def macro(images, layers, num_classes, norms, cell):
      ...     x = nn.Conv(layers[0].channels, (3, 3))(images)
      ...     for layer in layers:
      ...         x = cell(layer, x)
      ...     return nn.Dense(num_classes)(x.mean((1, 2)))
      >>> dnas.contracts.check_space(
      ...     custom_space("chain", {"cell": spec}, layers, macro, edges_per_node=1), num_cells=2
      ... )
    """
    for kind, spec in cells.items():
        if unknown := sorted(set(spec.ops) - set(OPS)):
            raise ValueError(
                f"ops {unknown} of cell {kind!r} are not in OPS; add them there, as"
                f" OPS[{unknown[0]!r}] = your_flax_module, or choose from: {', '.join(OPS)}"
            )

        if _AROUND in spec.ops:
            raise ValueError(
                f"cell {kind!r} has an op of the name {_AROUND!r}, which tables have for what is"
                " around the cells"
            )
    cells = {kind: _keeping(spec, edges_per_node) for kind, spec in cells.items()}

    def sized_layers(**sizes: Any) -> tuple[LayerSpec, ...]:
        if "image_size" in sizes:
            sizes["image_size"] = sides(sizes["image_size"])
        return layers(**sizes)

    def place(
        sizes: Mapping[str, Any], num_classes: int, norms: Norms, make_cell, cell_args
    ) -> nn.Module:
        def make_layers(images):
            return layers(**sizes, image_size=images.shape[1:3])

        return _MacroNetwork(macro, make_layers, num_classes, norms, make_cell, cell_args)

    @checked
    def supernet(
        *,
        channels: int = channels,
        num_cells: int = num_cells,
        num_classes: int = 10,
        partial_channels: int = 1,
        sampled: bool = False,
        schedule: str | None = None,
        remat: bool = True,
        norms: Norms | None = None,
        dtype=None,
    ) -> Model:
        at_least(1, channels=channels, num_cells=num_cells, num_classes=num_classes)
        schedule = checked_schedule(
            schedule, channels=channels, partial_channels=partial_channels, sampled=sampled
        )
        places = search_norms() if norms is None else norms

        def make_cell(layer, name):
            options = (places, partial_channels, sampled, schedule, remat)
            return MixedCell(cells[layer.kind], layer.channels, layer.stride, *options, name=name)

        def module(mix: Mix) -> nn.Module:
            sizes = {"channels": channels, "num_cells": num_cells}
            return place(sizes, num_classes, places, make_cell, lambda layer: (mix[layer.kind],))

        return make_supernet(module, cells, dtype=dtype)

    @checked
    def network(
        genotype: Genotype,
        *,
        channels: int = final_channels,
        num_cells: int = final_cells,
        num_classes: int = 10,
        stem: str = "cifar",
        auxiliary: bool = False,
        norms=final_norms,
        remat: bool = False,
        dtype=None,
    ) -> Model:
        check_genotype(space, genotype)
        at_least(1, channels=channels, num_cells=num_cells, num_classes=num_classes)
        if auxiliary:
            raise ValueError(f"the space {name!r} has no auxiliary head; give auxiliary=False")

        def make_cell(layer, name, places):
            spec, edges = cells[layer.kind], tuple(genotype.cells[layer.kind])
            make = nn.remat(ChosenCell) if remat else ChosenCell
            concat = tuple(genotype.concat_of(layer.kind))
            return make(
                edges, spec.num_inputs, concat, layer.channels, layer.stride, places, name=name
            )

        def module(train: bool, drop_path: Array | None, auxiliary: bool) -> nn.Module:
            del auxiliary
            places, args = norms(train), () if drop_path is None else (drop_path,)
            sizes = {"channels": channels, "num_cells": num_cells, "stem": stem}
            return place(
                sizes,
                num_classes,
                places,
                lambda layer, name: make_cell(layer, name, places),
                lambda layer: args,
            )

        return make_network(module, dtype=dtype)

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        found = dict(weights)
        for name, own in weights.items():
            if match := re.fullmatch(r"(\w+)_stride_(\d+)_cell_\d+", name):
                found[name] = weights_by_edge(cells[match[1]], int(match[2]), own)
        return found

    def parts(
        *,
        channels: int = final_channels,
        num_cells: int = final_cells,
        num_classes: int = 10,
        image_size: int | tuple[int, int] = 32,
        image_channels: int = 3,
        stem: str = "cifar",
    ) -> NetworkParts:
        size = sides(image_size)
        sizes = {"channels": channels, "num_cells": num_cells, "stem": stem}
        around = Part(
            _AROUND, image_channels, num_classes, *size, keys=tuple(sorted(sizes.items()))
        )
        choices = tuple(
            LayerParts(
                layer.kind,
                edge_choices(cells[layer.kind], layer.channels, layer.size, layer.stride),
            )
            for layer in layers(**sizes, image_size=size)
        )
        return NetworkParts(cells, (around,), choices, begins_with_relu)

    def around_cells(part: Part, norms: Norms) -> nn.Module:
        return place(
            dict(part.keys),
            part.channels_out,
            norms,
            lambda layer, name: (
                lambda inputs: _handed_on(inputs, layer.stride, len(cells[layer.kind].concat))
            ),
            lambda layer: (),
        )

    def network_of_part(part: Part) -> PartNetwork:
        return part_network(part, {_AROUND: around_cells})

    space = SearchSpace(
        name,
        cells,
        sized_layers,
        supernet,
        network,
        channels=channels,
        num_cells=num_cells,
        final_channels=final_channels,
        final_cells=final_cells,
        chosen_weights=chosen_weights,
        parts=parts,
        unrolled={"schedule": "unrolled"},
        part_network=network_of_part,
    )
    return space


def _keeping(spec: CellSpec, edges_per_node: int | None) -> CellSpec:
    keep = edges_per_node if spec.keep is None else spec.keep
    return dataclasses.replace(spec, keep=keep, nothing=nothing_of(spec.ops))


def _handed_on(inputs: tuple[Array, ...], stride: int, times: int) -> Array:
    return jnp.concatenate([add_up(inputs)[:, ::stride, ::stride]] * times, axis=-1)


class _MacroNetwork(nn.Module):
    macro: Macro
    layers: Callable[[Array], tuple[LayerSpec, ...]]
    num_classes: int
    norms: Norms
    make_cell: Callable[[LayerSpec, str], nn.Module]
    cell_args: Callable[[LayerSpec], tuple[AnyArray, ...]]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        count = itertools.count()

        def cell(layer: LayerSpec, *inputs: Array) -> Array:
            return self.make_cell(layer, f"{layer.kind}_stride_{layer.stride}_cell_{next(count)}")(
                inputs, *self.cell_args(layer)
            )

        return self.macro(images, self.layers(images), self.num_classes, self.norms, cell)
