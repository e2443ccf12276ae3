"""What a search space is: what is decided in it, its layers, and how to build its networks."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.checks import checked
from dnas.choices import Choices, relevant_rows
from dnas.genotype import Edge, Genotype
from dnas.graph import CellSpec
from dnas.model import Model
from dnas.parts import NetworkParts, Part, PartNetwork


class LayerSpec(NamedTuple):
    """One layer of a macro network: a cell, or in a layer-wise space one choice block.

    What is not searched has none: a residual block between two cells of NAS-Bench-201 shows in the
      size of the second.
    """

    kind: str
    channels: int  # of each node of the cell
    stride: int  # from the input of the layer to its output
    size: tuple[int, int]  # height and width of the input


def _no_parts(*args, **sizes):
    raise ValueError(
        "the space does not say what its networks are made of, so that tables do not fit it; give"
        " the SearchSpace the fields parts and part_network, as cells/darts.py does"
    )


class SearchSpace(NamedTuple):
    """A search space: what is decided, and factories of what is built from it.

    Its kinds are `cells`, graphs each of whose edges gets an op, and `dimensions`, decisions of any
    other sort; `choices` has all of them, and is what relaxations, selections and costs read.

    `layers(channels=, num_cells=, image_size=, stem=)` returns a tuple of `LayerSpec`,
    `supernet(channels=, num_cells=, num_classes=)` the supernet as a `Model`, with further options
    of its own as keywords, and `network(genotype, channels=, num_cells=, num_classes=, stem=,
    auxiliary=)` the network of a genotype, whose mix is {}; each has the published sizes as
    defaults. Where networks read tokens, sizes of images are no keywords. For hardware tables
    `parts(channels=, num_cells=, num_classes=, image_size=, image_channels=, stem=)` returns the
    `NetworkParts` of its final networks, by default of the published sizes, and
    `part_network(part)` one of them as a `PartNetwork`.
    """

    name: str
    cells: Mapping[str, CellSpec]
    layers: Callable[..., tuple[LayerSpec, ...]]
    supernet: Callable[..., Model]
    network: Callable[..., Model]
    channels: int = 16  # the published sizes of a supernet
    num_cells: int = 8
    final_channels: int = 36  # and of a final network
    final_cells: int = 20
    chosen_weights: Callable[[Genotype, PyTree], PyTree] = lambda genotype, weights: weights
    # (genotype, weights of the supernet) -> the same by the names that weights have in the
    # genotype's network
    parts: Callable[..., NetworkParts] = _no_parts
    part_network: Callable[[Part], PartNetwork] = _no_parts
    # whose published settings its searches have: those of "darts", "nasbench201", "chain" or
    # "recurrent" spaces, see `dnas.methods`
    family: str = "darts"
    inputs: str = "images"  # what its networks read: "images", or "tokens", see `Tokens`
    # options of a supernet that writes out every edge, as it is counted
    unrolled: Mapping[str, Any] = MappingProxyType({})
    dimensions: Mapping[str, Choices] = MappingProxyType({})  # the kinds that are no cells

    @property
    def choices(self) -> dict[str, Choices]:
        """What is decided, {kind: its rows and options}, cells first."""
        return {**{kind: spec.choices for kind, spec in self.cells.items()}, **self.dimensions}


def check_inputs(space: SearchSpace, inputs: str) -> None:
    """Raises ValueError unless networks of the space read what `inputs` says: images, or tokens."""
    if space.inputs != inputs:
        raise ValueError(
            f"networks of the space {space.name!r} read {space.inputs} and not {inputs}; take"
            f" {space.inputs}, or a space whose `inputs` are {inputs!r}"
        )


# {kind: [(row, column), ...]}: the rows that are kept, in some order, each with its option.
Picked = Mapping[str, Sequence[tuple[int, int]]]


def genotype_of(
    space: SearchSpace, picked: Picked, concat: Mapping[str, tuple[int, ...]] | None = None
) -> Genotype:
    """Returns the genotype with these options; edges of cells are listed in the order given.

    Args:
      concat: of the cells, that of the space unless given.
    """
    cells, picks = {}, {}
    for kind, spec in space.cells.items():
        cells[kind] = [Edge(*spec.edges[row], spec.ops[column]) for row, column in picked[kind]]
    for kind, choices in space.dimensions.items():
        options = {row: choices.options[column] for row, column in picked[kind]}
        picks[kind] = tuple(options.get(row) for row in range(len(choices.rows)))
    if concat is None:
        concat = {kind: spec.concat for kind, spec in space.cells.items()}
    return Genotype(space.name, cells, concat, picks)


def picked_of(space: SearchSpace, genotype: Genotype) -> dict[str, list[tuple[int, int]]]:
    """Returns the rows that a genotype keeps and their options, as `genotype_of` takes them.

    Raises:
      ValueError: if the genotype does not fit the space.
    """
    check_genotype(space, genotype)
    picked = {}
    for kind, spec in space.cells.items():
        picked[kind] = [
            (spec.edges.index((source, target)), spec.ops.index(op))
            for source, target, op in genotype.cells[kind]
        ]
    for kind, choices in space.dimensions.items():
        picked[kind] = [
            (row, choices.options.index(option))
            for row, option in enumerate(genotype.picks[kind])
            if option is not None
        ]
    return picked


@checked
def canonical_genotype(space: SearchSpace, genotype: Genotype) -> Genotype:
    """Returns the one of all genotypes that differ only in rows which do not matter in it, as the
    `under` of choices says: these have the first option that they may have.

    A block beyond the depth may have any kernel; in the canonical genotype it has the first.

    Raises:
      ValueError: if the genotype does not fit the space.
    """
    picked = picked_of(space, genotype)
    matters = relevant_rows(space.choices, {kind: dict(own) for kind, own in picked.items()})
    for kind, choices in space.choices.items():
        first = choices.allowed.argmax(axis=-1)
        picked[kind] = [
            (row, column if matters[kind][row] else int(first[row])) for row, column in picked[kind]
        ]
    return genotype_of(space, picked, genotype.concat)


@checked
def check_genotype(space: SearchSpace, genotype: Genotype) -> None:
    """Raises ValueError unless every kind, row and option of the genotype exists in the space."""
    if genotype.space != space.name:
        raise ValueError(
            f"the genotype belongs to the space {genotype.space!r}, but the space is {space.name!r}"
        )
    if set(genotype.cells) != set(space.cells):
        raise ValueError(
            f"the genotype has cells of kind {sorted(genotype.cells)}; the space {space.name!r}"
            f" needs {sorted(space.cells)}"
        )
    if set(genotype.picks) != set(space.dimensions):
        raise ValueError(
            f"the genotype has picks of {sorted(genotype.picks)}; the space {space.name!r} needs"
            f" {sorted(space.dimensions)}"
        )
    for kind, choices in space.dimensions.items():
        _check_picks(space.name, kind, choices, genotype.picks[kind])
    for kind, edges in genotype.cells.items():
        spec = space.cells[kind]
        for edge in edges:
            _check_edge(space.name, kind, spec, edge)
        nowhere = sorted(set(genotype.concat_of(kind)) - {edge.target for edge in edges})
        if nowhere:
            raise ValueError(f"cell {kind!r} concatenates nodes {nowhere}, which no edge enters")
        unfed = sorted(
            {e.source for e in edges} - {e.target for e in edges} - set(range(spec.num_inputs))
        )
        if unfed:
            raise ValueError(f"cell {kind!r} reads from nodes {unfed}, which no edge enters")


def _check_picks(name: str, kind: str, choices: Choices, picks: Sequence[str | None]) -> None:
    if len(picks) != len(choices.rows):
        raise ValueError(
            f"{kind!r} has {len(choices.rows)} rows in the space {name!r}, {choices.rows}, and the"
            f" genotype {len(picks)} picks for them"
        )
    for row, option in enumerate(picks):
        if option is None and choices.may_be_dropped[row]:
            continue
        if option not in choices.options_of(row):
            raise ValueError(
                f"option {option!r} is not among those of row {choices.rows[row]!r} of {kind!r} in"
                f" the space {name!r}; choose from: {', '.join(choices.options_of(row))}"
            )


def _check_edge(name: str, kind: str, spec: CellSpec, edge: Edge) -> None:
    if edge.op not in spec.ops:
        raise ValueError(
            f"op {edge.op!r} on edge {edge.source} -> {edge.target} of cell {kind!r} is not in the"
            f" space {name!r}; choose from: {', '.join(spec.ops)}, or make a space whose ops"
            " include it"
        )
    if (edge.source, edge.target) not in spec.edges:
        raise ValueError(
            f"edge {edge.source} -> {edge.target} of cell {kind!r} is not in the space {name!r},"
            f" whose edges are {spec.edges}"
        )
    own = spec.choices.options_of(spec.edges.index((edge.source, edge.target)))
    if edge.op not in own:
        raise ValueError(
            f"op {edge.op!r} is not among those of edge {edge.source} -> {edge.target} of cell"
            f" {kind!r} in the space {name!r}; choose from: {', '.join(own)}"
        )


@checked
def one_hot_mix(space: SearchSpace, genotype: Genotype) -> dict[str, Array]:
    """Returns the mix {kind: [E, O]} under which the supernet computes what the genotype's network
    computes.

    A chosen option has weight one, everything else zero: an edge that was not chosen contributes
    nothing.

    Raises:
      ValueError: if the genotype does not fit the space.

    Example:
      >>> import dnas
      >>> mix = one_hot_mix(dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"])
      >>> mix["normal"].shape, float(mix["normal"].sum())
      ((14, 8), 8.0)
    """
    picked, mix = picked_of(space, genotype), {}
    for kind, choices in space.choices.items():
        rows = np.zeros(choices.shape, np.float32)
        for row, column in picked[kind]:
            rows[row, column] = 1.0
        mix[kind] = jnp.asarray(rows)
    return mix


@checked
def inherit_weights(
    space: SearchSpace, genotype: Genotype, weights: PyTree, variables: PyTree
) -> PyTree:
    """Returns `variables` of the genotype's network with every array that the supernet has, taken
    from `weights`.

    What the supernet lacks, such as the scale and shift of norms, stays. Where the network has the
    norms of the search, it then computes what the supernet computes under `one_hot_mix(space,
    genotype)`.

    Args:
      weights: of the supernet; variables: of the network, of the same channels, num_cells and
        num_classes.

    Raises:
      ValueError: if the two networks differ in size.
    """
    check_genotype(space, genotype)
    shared = {
        jax.tree_util.keystr(path): array
        for path, array in _leaves(space.chosen_weights(genotype, weights))
    }

    def inherited(path, array):
        own = shared.get(jax.tree_util.keystr(path), array)
        if own.shape != array.shape:
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has shape {own.shape} in the supernet and"
                f" {array.shape} in the network; build both with the same channels, num_cells and"
                " num_classes"
            )
        return own

    return {**variables, "params": jax.tree_util.tree_map_with_path(inherited, variables["params"])}


def _leaves(tree: PyTree) -> list:
    return jax.tree_util.tree_flatten_with_path(tree)[0]
