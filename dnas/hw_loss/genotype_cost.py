"""What the network of one genotype costs by a table."""

import itertools
from typing import Any, cast

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.hw_loss.expected import calibration_of, combine_of, live_of
from dnas.hw_loss.relus import relus_of_node
from dnas.hw_loss.table import CostTable
from dnas.parts import Part
from dnas.space import SearchSpace, picked_of


@checked
def genotype_cost(
    table: CostTable,
    space: SearchSpace,
    genotype: Genotype,
    *,
    metric: str | None = None,
    live: str | None = None,
    interpolate: bool = False,
    **sizes,
) -> float:
    """Returns what the network of a genotype costs by the table: the sum over its parts, for peak
    memory the largest.

    Args:
      metric, live, interpolate: as `expected_cost` has them.
      sizes: what `space.parts` takes, such as channels and num_cells; the published network unless
        given.

    A table that was compared with whole networks counts as its `Calibration` has it, here and in
    `expected_cost`.

    Raises:
      ValueError: if the genotype does not fit the space, or concatenates other nodes than its cells
        do; names every part that the network has and the table lacks.

    Example:
      >>> import dnas
      >>> space, genotype = dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"]
      >>> table = dnas.hw_loss.count_table(space, channels=4, num_cells=3)
      >>> genotype_cost(table, space, genotype, metric="params", channels=4, num_cells=3)
      2858.0
    """
    picked = {kind: dict(own) for kind, own in picked_of(space, genotype).items()}
    metric = table.metric(metric)
    live = live_of(metric, live)
    layers = space.parts(**sizes)
    offset, factor, relu = calibration_of(table, metric)
    # By kind and edge, since `expected_cost` adds up the layers of a kind first.
    groups: dict[Any, list[Part]] = {}
    relus = 0
    for layer in layers.layers:
        spec = layers.cells[layer.kind]
        if set(genotype.concat_of(layer.kind)) != set(spec.concat):
            raise ValueError(
                f"cell {layer.kind!r} of the genotype concatenates"
                f" {genotype.concat_of(layer.kind)}, but the networks of the space {space.name!r},"
                f" whose parts a table has, concatenate {spec.concat}"
            )
        readers: dict[int, list[Part]] = {}
        for source, target, op in spec.live_edges_of(genotype.cells[layer.kind], live):
            part = layer.parts[spec.edges.index((source, target))][spec.ops.index(op)]
            assert part is not None  # the genotype fits the space
            groups.setdefault((layer.kind, source, target, op), []).append(part)
            readers.setdefault(source, []).append(part)
        if relu:
            relus += sum(
                relus_of_node(own, node in spec.concat, layers) for node, own in readers.items()
            )
    for number, term in enumerate(layers.terms):
        columns = [picked[kind].get(row) for kind, row in term.at]
        alive = all(picked[own.kind].get(own.row) in own.columns for own in term.alive)
        if None in columns or not alive:
            continue
        part = cast("Part | None", term.parts[tuple(columns)])
        if part is not None:
            groups[number] = [part]
    parts = [*layers.fixed, *itertools.chain.from_iterable(groups.values())]
    costs = dict(zip(parts, table.costs(parts, metric, interpolate=interpolate), strict=True))
    combine = combine_of(metric)
    fixed = offset + combine([factor(part.op) * costs[part].mean for part in layers.fixed])
    chosen = [
        factor(own[0].op) * combine([costs[part].mean for part in own]) for own in groups.values()
    ]
    return float(combine([fixed, *chosen, *([relu * (relus / 1000)] if relu else [])]))
