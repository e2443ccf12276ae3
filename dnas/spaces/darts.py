"""The DARTS space: 8 ops on 14 edges, a normal and a reduction cell. Section 3.1,
https://arxiv.org/abs/1806.09055."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from dnas.base import Array, Mix, PyTree
from dnas.cells.chosen import ChosenCell
from dnas.cells.edge_ops import EdgeOps, weights_by_edge
from dnas.cells.layers import MOST_NODES, STEMS, stack_layers
from dnas.cells.mixed_cell import MixedCell, checked_schedule, runs_waves
from dnas.cells.networks import CellStack, MixedStages, make_network, make_supernet
from dnas.cells.norms import Norms, final_norms, search_norms
from dnas.cells.ops import check_ops, nothing_of
from dnas.cells.parts import part_network, stack_parts
from dnas.checks import at_least, checked, one_of
from dnas.files import shown
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.model import Model
from dnas.parts import NetworkParts
from dnas.space import SearchSpace, check_genotype
from dnas.spaces.auxiliary_skip import AUXILIARY, SKIP, may_skip, parts_with_skips, with_skips

# The order matters for ties and for the columns of arch.
DARTS_OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

NUM_INPUTS = 2  # a cell reads the outputs of the two cells before it


@checked
def darts_space(
    *,
    name: str = "darts",
    ops: tuple[str, ...] = DARTS_OPS,
    num_nodes: int = 4,
    num_concat: int | None = None,
    edge_ops: Mapping[str, tuple[tuple[str, ...], ...]] | None = None,
    auxiliary_skip: bool = False,
    channels: int = 16,
    num_cells: int = 8,
    final_channels: int = 36,
    final_cells: int = 20,
) -> SearchSpace:
    """Returns the DARTS search space, or a variant with other ops or another number of nodes.

    Each of the `num_nodes` intermediate nodes has an edge from both inputs and from every earlier
    node; the output is the concatenation of the intermediate nodes. Edges are numbered by target,
    then by source.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      ops: names in `OPS`, in the order of the columns of arch.
      num_nodes: intermediate nodes of a cell.
      num_concat: the output is made of so many of them, the last ones; of all unless given.
      edge_ops: {"normal": ..., "reduce": ...}, the ops of each edge where edges have different
        ones; each in the order of `ops`, which are those of any edge. A supernet has weights for
        these only.
      auxiliary_skip: whether every edge, in a supernet and in a final network, computes a skip
        connection beside its op, with the weight one. Where an edge halves the image, it has
        weights in a final network, which in a supernet are those of the candidate. A supernet then
        runs all ops of an edge, also where it is `sampled`.
      channels, num_cells: the published size of a supernet, which is the default of `supernet`.
      final_channels, final_cells: that of a final network, which is the default of `network`.

    Raises:
      ValueError: for an op that is not in `OPS`, for edge_ops and a number of nodes that do not
        fit the cells, and for auxiliary skips where an edge may not have skip_connect.

    Example:
      >>> space = darts_space(ops=("none", "skip_connect", "sep_conv_3x3"))
      >>> len(space.cells["normal"].edges)
      14
    """
    check_ops(ops)
    if num_nodes < 1:
        raise ValueError(f"a cell needs at least one intermediate node, got num_nodes={num_nodes}")
    at_least(1, most=MOST_NODES, num_nodes=num_nodes)
    nodes = tuple(range(NUM_INPUTS, NUM_INPUTS + num_nodes))
    edges = tuple((source, target) for target in nodes for source in range(target))
    spec = CellSpec(
        num_inputs=NUM_INPUTS,
        num_nodes=num_nodes,
        edges=edges,
        ops=tuple(ops),
        concat=nodes[-_number_of_outputs(num_concat, num_nodes) :],
        keep=2,
        nothing=nothing_of(ops),
    )
    cells = {"normal": spec, "reduce": spec}
    if edge_ops is not None:
        if set(edge_ops) != set(cells):
            raise ValueError(
                f"edge_ops are given for the cells {', '.join(cells)}, not for"
                f" {', '.join(edge_ops)}"
            )
        cells = {
            kind: dataclasses.replace(spec, edge_ops=tuple(map(tuple, edge_ops[kind])))
            for kind in cells
        }

    if auxiliary_skip and not all(may_skip(spec) for spec in cells.values()):
        raise ValueError(
            f"auxiliary skips need the op {SKIP!r} among the candidates of every edge; add it to"
            f" the ops of {shown(name)}, or leave auxiliary_skip out"
        )

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
        made = _supernet(
            cells,
            channels=channels,
            num_cells=num_cells,
            num_classes=num_classes,
            partial_channels=partial_channels,
            sampled=sampled and not auxiliary_skip,
            schedule=schedule,
            remat=remat,
            norms=search_norms() if norms is None else norms,
            dtype=dtype,
        )
        return with_skips(made, cells) if auxiliary_skip else made

    def network(genotype: Genotype, **sizes) -> Model:
        check_genotype(space, genotype)
        published = {"channels": final_channels, "num_cells": final_cells}
        return _network(genotype, **{**published, "auxiliary_skip": auxiliary_skip, **sizes})

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        num_cells = sum(name.startswith("cell_") for name in weights)
        renamed = dict(weights)
        for number, layer in enumerate(stack_layers(channels=2, num_cells=num_cells, image_size=4)):
            own = weights[f"cell_{number}"]
            cell = weights_by_edge(cells[layer.kind], layer.stride, own.get("cell", {}))
            if auxiliary_skip:
                cell = {edge: {**ops, AUXILIARY: ops.get(SKIP, {})} for edge, ops in cell.items()}
            renamed[f"cell_{number}"] = {**own, "cell": cell}
        return renamed

    def parts(**sizes) -> NetworkParts:
        published = {"channels": space.final_channels, "num_cells": space.final_cells}
        made = stack_parts(cells, **{**published, **sizes})
        return parts_with_skips(made) if auxiliary_skip else made

    space = SearchSpace(
        name,
        cells,
        stack_layers,
        supernet,
        network,
        channels=channels,
        num_cells=num_cells,
        final_channels=final_channels,
        final_cells=final_cells,
        chosen_weights=chosen_weights,
        parts=parts,
        unrolled={"schedule": "unrolled"},
        part_network=part_network,
    )
    return space


def _number_of_outputs(num_concat: int | None, num_nodes: int) -> int:
    if num_concat is None:
        return num_nodes
    if not 1 <= num_concat <= num_nodes:
        raise ValueError(
            f"the output is made of at least one of the {num_nodes} intermediate nodes, got"
            f" num_concat={num_concat}"
        )
    return num_concat


def _supernet(
    cells,
    *,
    channels: int,
    num_cells: int,
    num_classes: int,
    partial_channels: int,
    sampled: bool,
    schedule: str | None,
    remat: bool,
    norms: Norms,
    dtype,
) -> Model:
    at_least(1, num_classes=num_classes)
    schedule = checked_schedule(
        schedule, channels=channels, partial_channels=partial_channels, sampled=sampled
    )
    edge_ops = EdgeOps(tuple(cells.values()), norms, partial_channels, sampled)
    waves = runs_waves(schedule, edge_ops)

    def stack(mix: Mix) -> CellStack:
        def make_cell(layer):
            options = norms, partial_channels, sampled, schedule, remat
            spec = cells[layer.kind]
            return MixedCell(spec, layer.channels, layer.stride, *options, parent=None)

        stages = MixedStages(cells, mix, edge_ops, remat, waves)
        return CellStack(
            channels,
            num_cells,
            num_classes,
            "cifar",
            norms,
            make_cell,
            cell_args=lambda layer: (mix[layer.kind],),
            begin_stage=None if schedule == "unrolled" else partial(MixedStages.begin, stages),
        )

    return make_supernet(stack, cells, dtype=dtype)


@checked
def _network(
    genotype: Genotype,
    *,
    channels: int,
    num_cells: int,
    num_classes: int = 10,
    stem: str = "cifar",
    auxiliary: bool = False,
    auxiliary_skip: bool = False,
    norms=final_norms,
    remat: bool = False,
    scan: bool = False,
    dtype=None,
) -> Model:
    """`norms`: train -> Norms. With `search_norms` the network equals the supernet at the one-hot
    mix."""
    at_least(1, num_classes=num_classes)
    one_of(STEMS, stem=stem)

    def stack(train: bool, drop_path: Array | None, auxiliary: bool) -> CellStack:
        places = norms(train)

        def make_cell(layer):
            edges, concat = tuple(genotype.cells[layer.kind]), tuple(genotype.concat_of(layer.kind))
            size = layer.channels, layer.stride
            return ChosenCell(edges, NUM_INPUTS, concat, *size, places, auxiliary_skip, parent=None)

        args = () if drop_path is None else (drop_path,)
        return CellStack(
            channels,
            num_cells,
            num_classes,
            stem,
            places,
            make_cell,
            lambda layer: args,
            auxiliary,
            remat,
            scan,
        )

    return make_network(stack, auxiliary=auxiliary, dtype=dtype)
