"""All genotypes of small spaces, and random spaces to go through."""

import itertools

import numpy as np
from test_expected import cell_space, chain_space, made_up

from dnas.graph import CellSpec
from dnas.parts import Part
from dnas.space import one_hot_mix


def all_rows(choices):
    """The one-hot rows [E, O] of every genotype, of one kind."""
    usable = choices.allowed if choices.keep is None else choices.computes
    of_groups = []
    for group in choices.together:
        kept = min(choices.places(group), len(group))
        of_groups.append(
            [
                list(zip(rows, columns, strict=True))
                for rows in itertools.combinations(group, kept)
                for columns in itertools.product(*(np.flatnonzero(usable[row]) for row in rows))
            ]
        )
    for chosen in itertools.product(*of_groups):
        rows = np.zeros(choices.shape)
        for row, column in itertools.chain.from_iterable(chosen):
            rows[row, column] = 1.0
        yield rows


def is_connected(spec, rows):
    there = np.flatnonzero((rows * spec.choices.computes).any(axis=-1)).tolist()
    return bool(spec.live_rows(there))


def all_genotypes(space):
    """Of a space of one kind of cell: the mixes of all whose output an input reaches."""
    ((kind, spec),) = space.cells.items()
    return [{kind: rows} for rows in all_rows(spec.choices) if is_connected(spec, rows)]


def kept_space(keep, *, nodes=3, inputs=1, ops=("skip", "conv"), output="last"):
    """Nodes keep some of their edges; the last one alone is the output, or all are."""
    numbers = range(inputs, inputs + nodes)
    edges = tuple((source, target) for target in numbers for source in range(target))
    spec = CellSpec(inputs, nodes, edges, ops, tuple(numbers) if output == "all" else numbers[-1:])
    parts = [[Part(op, 8 + source, 8, 8, target) for op in ops] for source, target in edges]
    return made_up(f"kept {keep}", "cell", spec, [parts], edges_per_node=keep)


def with_relus(space, op="conv"):
    layers = space.parts()._replace(begins_with_relu=lambda part: part.op == op)
    return space._replace(parts=lambda: layers)


SMALL = {
    "chain": chain_space(),
    "independent edges": cell_space(),
    "independent edges with ReLUs": with_relus(cell_space()),
    "all nodes are the output": kept_space(2, inputs=2, nodes=2, output="all"),
    "one edge, the last node is the output": kept_space(1, nodes=4),
    "two edges, the last node is the output": kept_space(2, inputs=2),
    "two edges with ReLUs": with_relus(kept_space(2, inputs=2)),
}


def kept_of(space, genotype, mix):
    """What a genotype keeps of a mix."""
    chosen = one_hot_mix(space, genotype)
    return sum(float((np.asarray(chosen[kind]) * rows).sum()) for kind, rows in mix.items())
