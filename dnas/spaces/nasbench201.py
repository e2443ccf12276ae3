"""The space of NAS-Bench-201: 5 ops on 6 edges, one kind of cell. Section 2.1,
https://arxiv.org/abs/2001.00326.

What the paper leaves open is as in the released code of D-X-Y/AutoDL-Projects, from which all
published tables come.
"""

import functools

from dnas.base import Array, PyTree
from dnas.cells.chosen import ChosenCell
from dnas.cells.edge_ops import weights_by_edge
from dnas.cells.layers import MOST_NODES, residual_layers
from dnas.cells.mixed_cell import MixedCell, checked_schedule, run_chain
from dnas.cells.networks import make_network, make_supernet
from dnas.cells.norms import BatchNorm, Norms, final_norms, no_norm, search_norms
from dnas.cells.ops import check_ops
from dnas.cells.parts import part_network, residual_parts
from dnas.cells.residual import ResidualStack
from dnas.checks import at_least, checked, one_of
from dnas.genotype import Genotype
from dnas.graph import CellSpec
from dnas.kernels.backend import on_cpu
from dnas.model import Model
from dnas.parts import NetworkParts
from dnas.space import SearchSpace, check_genotype

# The order matters for ties and for the columns of arch.
NASBENCH201_OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@checked
def nasbench201_space(
    *, name: str = "nasbench201", ops: tuple[str, ...] = NASBENCH201_OPS, num_nodes: int = 3
) -> SearchSpace:
    """Returns the NAS-Bench-201 search space, or a variant with other ops or another number of
    nodes.

    Node 0 is the input of a cell and its last node the output; every node after the first sums one
    op of each earlier node, and `none` is one of them. Edges are numbered by target, then by
    source, as in "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|".

    Its `supernet` takes, besides what that of `darts_space` takes, `affine`: whether the norms of
    candidates have scale and shift. As in the benchmark they have none unless told otherwise, and
    convolutions a bias then; statistics are those of the batch. `remat` is on unless told
    otherwise, but for a sampled path on a CPU: there it costs a tenth of the time, and without it a
    step of the published size at batch 16 needs 100 MB more. Its `network` has `norms`, `remat`,
    `scan` and `dtype` as that of DARTS; with `norms=search_norms` it equals the supernet at the
    one-hot mix. There is no auxiliary head and no other stem.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      ops: names in `OPS`, in the order of the columns of arch.
      num_nodes: of a cell, the input not counted.

    Raises:
      ValueError: for an op that is not in `OPS`.

    Example:
      >>> space = nasbench201_space()
      >>> space.cells["cell"].edges
      ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    """
    check_ops(ops)
    if num_nodes < 1:
        raise ValueError(
            f"a cell needs at least one node after its input, got num_nodes={num_nodes}"
        )
    at_least(1, most=MOST_NODES, num_nodes=num_nodes)
    edges = tuple(
        (source, target) for target in range(1, num_nodes + 1) for source in range(target)
    )
    spec = CellSpec(
        num_inputs=1, num_nodes=num_nodes, edges=edges, ops=tuple(ops), concat=(num_nodes,)
    )

    @checked
    def supernet(
        *,
        channels: int = 16,
        num_cells: int = 15,
        num_classes: int = 10,
        affine: bool = False,
        norms: Norms | None = None,
        partial_channels: int = 1,
        sampled: bool = False,
        schedule: str | None = None,
        remat: bool | None = None,
        dtype=None,
    ) -> Model:
        at_least(1, num_classes=num_classes)
        schedule = checked_schedule(
            schedule, channels=channels, partial_channels=partial_channels, sampled=sampled
        )
        places = _candidate_norms(affine) if norms is None else _no_norm_after_pooling(norms)
        remat = not (sampled and on_cpu()) if remat is None else remat

        def make_cell(layer):
            return MixedCell(
                spec,
                layer.channels,
                layer.stride,
                places,
                partial_channels,
                sampled,
                schedule,
                remat,
                parent=None,
            )

        stack = ResidualStack(
            channels,
            num_cells,
            num_classes,
            places,
            make_cell,
            chain=None if schedule == "unrolled" else run_chain,
        )
        return make_supernet(
            lambda mix: stack, {"cell": spec}, args=lambda mix: (mix["cell"],), dtype=dtype
        )

    def network(genotype: Genotype, **sizes) -> Model:
        check_genotype(space, genotype)
        return _network(genotype, **sizes)

    def chosen_weights(genotype: Genotype, weights: PyTree) -> PyTree:
        return {
            name: weights_by_edge(spec, 1, child) if name.startswith("cell_") else child
            for name, child in weights.items()
        }

    def parts(**sizes) -> NetworkParts:
        return residual_parts(
            spec, **{"channels": space.final_channels, "num_cells": space.final_cells, **sizes}
        )

    space = SearchSpace(
        name,
        {"cell": spec},
        residual_layers,
        supernet,
        network,
        channels=16,
        num_cells=15,
        final_channels=16,
        final_cells=15,
        family="nasbench201",
        chosen_weights=chosen_weights,
        parts=parts,
        unrolled={"schedule": "unrolled"},
        part_network=part_network,
    )
    return space


@checked
def _network(
    genotype: Genotype,
    *,
    channels: int = 16,
    num_cells: int = 15,
    num_classes: int = 10,
    stem: str = "cifar",
    auxiliary: bool = False,
    norms=final_norms,
    remat: bool = False,
    scan: bool = False,
    dtype=None,
) -> Model:
    """`norms`: train -> Norms. With `search_norms` the network equals the supernet at the one-hot
    mix."""
    at_least(1, num_classes=num_classes)
    one_of(("cifar",), stem=stem)
    if auxiliary:
        raise ValueError(
            "the networks of NAS-Bench-201 have no auxiliary head; give auxiliary=False"
            " (--auxiliary=0)"
        )
    edges, concat = tuple(genotype.cells["cell"]), tuple(genotype.concat_of("cell"))

    def stack(train: bool, drop_path: Array | None, auxiliary: bool) -> ResidualStack:
        del drop_path, auxiliary
        places = _no_norm_after_pooling(norms(train))

        def make_cell(layer):
            return ChosenCell(edges, 1, concat, layer.channels, layer.stride, places, parent=None)

        return ResidualStack(channels, num_cells, num_classes, places, make_cell, remat, scan)

    return make_network(
        stack, args=lambda drop_path: () if drop_path is None else (drop_path,), dtype=dtype
    )


# the same object again, so that modules built with it are equal and are traced once
@functools.cache
def _candidate_norms(affine: bool) -> Norms:
    plain = search_norms()
    norms = plain._replace(conv=functools.partial(BatchNorm, running=False)) if affine else plain
    return _no_norm_after_pooling(norms)


@functools.cache
def _no_norm_after_pooling(norms: Norms) -> Norms:
    """Pooling has a norm in NAS-Bench-201 only where it changes the channels, and in a cell nothing
    does."""
    return norms._replace(pool=no_norm)
