"""The DARTS space: 8 ops on 14 edges, a normal and a reduction cell. Section 3.1, https://arxiv.org/abs/1806.09055."""

from dnas.base import Array, Mix, PyTree
from dnas.cells.macro import STEMS, CellStack, stack_layers
from dnas.cells.mixed import ChosenCell, MixedCell, stage_ops, weights_by_edge
from dnas.cells.networks import checked_schedule, make_network, make_supernet
from dnas.cells.norms import final_norms, search_norms
from dnas.cells.ops import OPS
from dnas.cells.parts import part_network, stack_parts
from dnas.cells.stages import run_stage
from dnas.genotype import Genotype
from dnas.space import CellSpec, Network, NetworkParts, SearchSpace, Supernet, check_genotype

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


def darts_space(*, name: str = "darts", ops: tuple[str, ...] = DARTS_OPS, num_nodes: int = 4) -> SearchSpace:
    """Returns the DARTS search space, or a variant with other ops or another number of nodes.

    Each of the `num_nodes` intermediate nodes has an edge from both inputs and from every earlier node; the output is the
    concatenation of the intermediate nodes. Edges are numbered by target, then by source.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      ops: names in `OPS`, in the order of the columns of arch.
      num_nodes: intermediate nodes of a cell.

    Raises:
      ValueError: for an op that is not in `OPS`.

    Example:
      >>> space = darts_space(ops=("none", "skip_connect", "sep_conv_3x3"))
      >>> len(space.cells["normal"].edges)
      14
    """
    if isinstance(ops, str):
        raise ValueError(f"ops is a tuple of names, such as ({ops!r},), not one name")
    for op in ops:
        if op not in OPS:
            raise ValueError(f"op {op!r} is not in OPS; add it to cells/ops.py or choose from: {', '.join(OPS)}")
    if not set(ops) - {"none"}:
        raise ValueError(f"a space needs an op besides none, got {ops}; choose from: {', '.join(OPS)}")
    if num_nodes < 1:
        raise ValueError(f"a cell needs at least one intermediate node, got num_nodes={num_nodes}")
    nodes = tuple(range(NUM_INPUTS, NUM_INPUTS + num_nodes))
    edges = tuple((source, target) for target in nodes for source in range(target))
    spec = CellSpec(num_inputs=NUM_INPUTS, num_nodes=num_nodes, edges=edges, ops=tuple(ops), concat=nodes)
    cells = {"normal": spec, "reduce": spec}

    def supernet(
        *,
        channels: int = 16,
        num_cells: int = 8,
        num_classes: int = 10,
        partial_channels: int = 1,
        sampled: bool = False,
        schedule: str | None = None,
        remat: bool = True,
        dtype=None,
    ) -> Supernet:
        return _supernet(
            cells,
            channels=channels,
            num_cells=num_cells,
            num_classes=num_classes,
            partial_channels=partial_channels,
            sampled=sampled,
            schedule=schedule,
            remat=remat,
            dtype=dtype,
        )

    def network(genotype: Genotype, **sizes) -> Network:
        check_genotype(space, genotype)
        return _network(genotype, **sizes)

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        return _weights_by_edge(spec, weights)

    def parts(**sizes) -> NetworkParts:
        published = {"channels": space.final_channels, "num_cells": space.final_cells}
        return stack_parts(cells, space.edges_per_node, **{**published, **sizes})

    space = SearchSpace(
        name, cells, stack_layers, supernet, network, chosen_weights=chosen_weights, parts=parts, part_network=part_network
    )
    return space


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
    dtype,
) -> Supernet:
    schedule = checked_schedule(schedule, channels=channels, partial_channels=partial_channels, sampled=sampled)
    norms = search_norms()
    ops = stage_ops(cells["normal"].ops, norms, partial_channels, sampled)

    def stack(mix: Mix) -> CellStack:
        def make_cell(layer):
            return MixedCell(
                cells[layer.kind], layer.channels, layer.stride, norms, partial_channels, sampled, schedule, remat, parent=None
            )

        def run_one_stage(layers, halves, weights, before, last):
            rows = [mix[layer.kind] for layer in layers]
            spec = cells[layers[0].kind]
            return run_stage(spec, layers, ops, weights, rows, before, last, halves=halves, remat=remat)

        return CellStack(
            channels,
            num_cells,
            num_classes,
            "cifar",
            norms,
            make_cell,
            cell_args=lambda layer: (mix[layer.kind],),
            run_stage=run_one_stage if schedule == "edges" else None,
        )

    return make_supernet(stack, cells, dtype=dtype)


def _network(
    genotype: Genotype,
    *,
    channels: int = 36,
    num_cells: int = 20,
    num_classes: int = 10,
    stem: str = "cifar",
    auxiliary: bool = False,
    norms=final_norms,
    remat: bool = False,
    scan: bool = False,
    dtype=None,
) -> Network:
    """`norms`: train -> Norms. With `search_norms` the network equals the supernet at the one-hot mix."""
    if stem not in STEMS:
        raise ValueError(f"stem {stem!r} does not exist; choose from: {', '.join(STEMS)}")

    def stack(train: bool, drop_path: Array | None, auxiliary: bool) -> CellStack:
        places = norms(train)

        def make_cell(layer):
            edges, concat = tuple(genotype.cells[layer.kind]), tuple(genotype.concat_of(layer.kind))
            return ChosenCell(edges, NUM_INPUTS, concat, layer.channels, layer.stride, places, parent=None)

        args = () if drop_path is None else (drop_path,)
        return CellStack(channels, num_cells, num_classes, stem, places, make_cell, lambda layer: args, auxiliary, remat, scan)

    return make_network(stack, auxiliary=auxiliary, dtype=dtype)


def _weights_by_edge(spec: CellSpec, weights: PyTree) -> PyTree:
    """The supernet's weights under the names of the network's: one entry an edge in place of one a stride."""

    def renamed(name, child):
        return {**child, "cell": weights_by_edge(spec, child.get("cell", {}))} if name.startswith("cell_") else child

    return {name: renamed(name, child) for name, child in weights.items()}
