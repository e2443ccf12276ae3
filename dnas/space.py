"""What a search space is: the graph of its cells, its layers, and how to build its networks."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, Key, PyTree
from dnas.genotype import Edge, Genotype
from dnas.model import Model


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """The graph of one kind of cell: which edges there are and which ops compete on each.

    Nodes are numbered from 0, inputs first. Row e of a mix belongs to `edges[e]`, column o to
    `ops[o]`. Where edges have different candidates, as in the spaces of RobustDARTS, `ops` are
    those of any edge and `edge_ops` those of each.

    Raises:
      ValueError: if an edge does not lead from a node to a later, non-input node of the cell, or
        names repeat.
    """

    num_inputs: int
    num_nodes: int  # intermediate nodes, inputs not counted
    edges: tuple[tuple[int, int], ...]  # (source, target)
    ops: tuple[str, ...]
    concat: tuple[int, ...]  # the nodes whose concatenation is the output
    edge_ops: tuple[tuple[str, ...], ...] | None = (
        None  # of each edge; None where all edges have all ops
    )

    def __post_init__(self):
        last = self.num_inputs + self.num_nodes - 1
        for source, target in self.edges:
            if not 0 <= source < target <= last or target < self.num_inputs:
                raise ValueError(
                    f"edge {(source, target)} does not lead to a later node among {self.num_inputs}"
                    f" to {last} of the cell"
                )
        if (
            not self.concat
            or not set(self.concat) <= set(self.nodes)
            or len(set(self.concat)) < len(self.concat)
        ):
            raise ValueError(
                f"concat names intermediate nodes, {self.num_inputs} to {last}, each once; got"
                f" {self.concat}"
            )
        if len(set(self.edges)) != len(self.edges) or len(set(self.ops)) != len(self.ops):
            raise ValueError(f"edges and ops of a cell are unique, got {self.edges} and {self.ops}")
        if self.edge_ops is None:
            return
        if len(self.edge_ops) != len(self.edges) or not all(self.edge_ops):
            raise ValueError(
                f"edge_ops names the ops of each of the {len(self.edges)} edges, got"
                f" {self.edge_ops}"
            )
        if unknown := {op for own in self.edge_ops for op in own} - set(self.ops):
            raise ValueError(
                f"edge_ops names {sorted(unknown)}, which are not among the ops of the cell,"
                f" {self.ops}"
            )

    @property
    def allowed(self) -> np.ndarray:
        """bool [E, O]: which op may be chosen on which edge."""
        own = [self.ops] * len(self.edges) if self.edge_ops is None else self.edge_ops
        return np.array([[op in ops for op in self.ops] for ops in own])

    def incoming(self, node: int) -> tuple[int, ...]:
        """Returns the row numbers of the edges that enter `node`."""
        return tuple(number for number, (_, target) in enumerate(self.edges) if target == node)

    @property
    def nodes(self) -> range:
        """The intermediate nodes."""
        return range(self.num_inputs, self.num_inputs + self.num_nodes)


class LayerSpec(NamedTuple):
    """One layer of a macro network: a cell, or in a layer-wise space one choice block.

    What is not searched has none: a residual block between two cells of NAS-Bench-201 shows in the
      size of the second.
    """

    kind: str
    channels: int  # of each node of the cell
    stride: int  # from the input of the layer to its output
    size: tuple[int, int]  # height and width of the input


class Part(NamedTuple):
    """One part of a final network, as a hardware table has a row for it: an op at one shape.

    Example:
      >>> print(Part("mbconv", 16, 24, 112, 112, 2, (("expand", 3), ("kernel", 5))))
      mbconv 16->24 112x112 stride 2 expand=3 kernel=5
    """

    op: str
    channels_in: int
    channels_out: int
    height: int  # of the input
    width: int
    stride: int = 1
    keys: tuple[tuple[str, int | str], ...] = ()  # what else tells two parts apart, sorted by name

    def __str__(self):
        size = (
            f"{self.op} {self.channels_in}->{self.channels_out} {self.height}x{self.width} stride"
            f" {self.stride}"
        )
        return " ".join([size, *(f"{name}={value}" for name, value in self.keys)])


class LayerParts(NamedTuple):
    """What may run in one layer: for each edge of its cell and each op a `Part`.

    None stands where nothing runs: `none`, and an op that the edge does not have.
    """

    kind: str
    choices: tuple[tuple[Part | None, ...], ...]  # [E][O]


class NetworkParts(NamedTuple):
    """All that the final networks of a space are made of, at one size. Sums and concatenations of
    nodes are not listed."""

    cells: Mapping[str, CellSpec]
    fixed: tuple[Part, ...]  # what every network runs, as often as it does
    layers: tuple[LayerParts, ...]
    edges_per_node: int | None  # that a genotype keeps, see `SearchSpace`
    begins_with_relu: Callable[[Part], bool] = lambda part: (
        False
    )  # of a candidate; runtimes compute it once for several

    def distinct(self) -> tuple[Part, ...]:
        """Returns each part once, in the order of the network: what a table of the space must have
        rows for."""
        return tuple(dict.fromkeys((*self.fixed, *self._choices())))

    def candidates(self) -> set[Part]:
        """Returns the parts that are a choice somewhere."""
        return set(self._choices())

    def _choices(self) -> Iterator[Part]:
        return (
            part
            for layer in self.layers
            for row in layer.choices
            for part in row
            if part is not None
        )


class PartNetwork(NamedTuple):
    """One part as a network of its own, in the form that final networks have once they are
    trained."""

    init: Callable[
        [Key, Array], PyTree
    ]  # (key, x [B, H, W, C]) -> variables, with the weights under "params"
    apply: Callable[[PyTree, Array], Array]  # (variables, x) -> y


def _no_parts(*args, **sizes):
    raise ValueError(
        "the space does not say what its networks are made of, so that tables do not fit it; give"
        " the SearchSpace the fields parts and part_network, as cells/darts.py does"
    )


class SearchSpace(NamedTuple):
    """A search space: cells and their ops, and factories of what is built from them.

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
    edges_per_node: int | None = (
        2  # that a genotype keeps; None where every edge keeps an op, `none` where there is one
    )
    channels: int = 16  # the published sizes of a supernet
    num_cells: int = 8
    final_channels: int = 36  # and of a final network
    final_cells: int = 20
    chosen_weights: Callable[[Genotype, PyTree], PyTree] = lambda genotype, weights: weights
    # (genotype, weights of the supernet) -> the same by the names that weights have in the
    # genotype's network
    parts: Callable[..., NetworkParts] = _no_parts
    part_network: Callable[[Part], PartNetwork] = _no_parts
    inputs: str = "images"  # what its networks read: "images", or "tokens", see `Tokens`
    # options of a supernet that writes out every edge, as it is counted
    unrolled: Mapping[str, Any] = {}


def check_inputs(space: SearchSpace, inputs: str) -> None:
    """Raises ValueError unless networks of the space read what `inputs` says: images, or tokens."""
    if space.inputs != inputs:
        raise ValueError(
            f"networks of the space {space.name!r} read {space.inputs} and not {inputs}; take"
            f" {space.inputs}, or a space whose `inputs` are {inputs!r}"
        )


def check_genotype(space: SearchSpace, genotype: Genotype) -> None:
    """Raises ValueError unless every cell, edge and op of the genotype exists in the space."""
    if genotype.space != space.name:
        raise ValueError(
            f"the genotype belongs to the space {genotype.space!r}, but the space is {space.name!r}"
        )
    if set(genotype.cells) != set(space.cells):
        raise ValueError(
            f"the genotype has cells of kind {sorted(genotype.cells)}; the space {space.name!r}"
            f" needs {sorted(space.cells)}"
        )
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
    row = spec.edges.index((edge.source, edge.target))
    if spec.edge_ops is not None and edge.op not in spec.edge_ops[row]:
        raise ValueError(
            f"op {edge.op!r} is not among those of edge {edge.source} -> {edge.target} of cell"
            f" {kind!r} in the space {name!r}; choose from: {', '.join(spec.edge_ops[row])}"
        )


def one_hot_mix(space: SearchSpace, genotype: Genotype) -> dict[str, Array]:
    """Returns the mix {kind: [E, O]} under which the supernet computes what the genotype's network
    computes.

    A chosen op has weight one, everything else zero: an edge that was not chosen contributes
      nothing.

    Raises:
      ValueError: if the genotype does not fit the space.

    Example:
      >>> import dnas
      >>> mix = one_hot_mix(dnas.SPACES["darts"], dnas.PUBLISHED["DARTS_V2"])
      >>> mix["normal"].shape, float(mix["normal"].sum())
      ((14, 8), 8.0)
    """
    check_genotype(space, genotype)
    mix = {}
    for kind, spec in space.cells.items():
        rows = np.zeros((len(spec.edges), len(spec.ops)), np.float32)
        for source, target, op in genotype.cells[kind]:
            rows[spec.edges.index((source, target)), spec.ops.index(op)] = 1.0
        mix[kind] = jnp.asarray(rows)
    return mix


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
