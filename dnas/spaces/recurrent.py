"""The recurrent space of DARTS: a language model with one searched cell. Section 2.1,
https://arxiv.org/abs/1806.09055.

Node 0 of the cell joins a word x with the hidden state h before it: [c, g] = [x, h] W_0 and s_0 = h
+ sig(c) (tanh(g) - h). Of every later node i an edge from node j and an activation f propose s_j +
sig(c) (f(g) - s_j) with [c, g] = s_j W_i: one matrix a node, whatever it reads. The next hidden
state is the mean of the nodes. There is nothing of flax in it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dnas.base import Array, Key, Mix, PyTree, add_up
from dnas.cells.init import check_dtype, in_dtype
from dnas.cells.layers import MOST_CHANNELS, MOST_NODES
from dnas.checks import at_least, checked, one_of
from dnas.genotype import Edge, Genotype
from dnas.graph import CellSpec
from dnas.kernels.kernel import fence
from dnas.model import Model, Outputs, Tokens
from dnas.parts import LayerParts, NetworkParts, Part, PartNetwork
from dnas.space import LayerSpec, SearchSpace, check_genotype

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}

# The order matters for ties and for the columns of arch.
RECURRENT_OPS = ("none", *ACTIVATIONS)

_INIT_RANGE = 0.04  # all matrices start from U(-0.04, 0.04)
_NORM_EPS = 1e-5


class Dropout(NamedTuple):
    """Rates of dropout in training. A mask is drawn once a window, for each of its texts, and holds
    for all of its tokens.

    The defaults are those of DARTS on Penn Treebank, search and evaluation alike, but for `words`:
    its evaluation has 0.1 in the paper (appendix A.2.2) and 0 in the released code, whose search
    has 0.
    """

    words: float = (
        0.0  # of the vocabulary, whose embeddings are zero in this window for all of its texts
    )
    embedding: float = 0.2  # of the elements of a word's embedding
    inputs: float = 0.75  # of the same once more, where they enter the cell
    # of the states that are multiplied by a matrix of the cell; a state that is carried on is whole
    hidden: float = 0.25
    output: float = 0.75  # of the hidden state, where words are predicted from it


# (node, states of the nodes before, their product with the node's matrix) -> state of the node
_Node = Callable[[int, Mapping[int, Array], Callable[[Array], Array]], Array]

NO_DROPOUT = Dropout(0.0, 0.0, 0.0, 0.0, 0.0)
_SEARCH_DROPOUT, _FINAL_DROPOUT = Dropout(), Dropout(words=0.1)


@checked
def recurrent_space(
    *, name: str = "recurrent", ops: tuple[str, ...] = RECURRENT_OPS, num_nodes: int = 8
) -> SearchSpace:
    """Returns the recurrent search space of DARTS, or a variant with other activations or another
    number of nodes.

    A node has an edge from every node before it, and a genotype keeps one of them. Its networks
    read `Tokens`, with the size of words and hidden states as channels and the words of the
    vocabulary as classes, and a text begins with a state of zeros. Words are predicted by the
    matrix that embeds them. Options of supernet and network, with the published defaults:

      dropout: `Dropout` rates of training.
      norm: whether a batch norm without scale and shift, over the texts of a batch, follows every
        node: the search has it, against exploding gradients, and the final network has not.
      remat: compute each token again for the gradient instead of keeping what it computed.
      dtype: what is computed in; logits and states are as wide as the weights.

    Args:
      name: the name that genotypes of the space carry; give a variant its own.
      ops: activations and `none`, in the order of the columns of arch.
      num_nodes: of the cell, node 0 not counted.

    Raises:
      ValueError: for an op that is neither `none` nor in `ACTIVATIONS`, or if there is nothing to
        choose.

    Example:
      >>> import dnas, jax, jax.numpy as jnp
      >>> network = recurrent_space().network(
      ...     dnas.PUBLISHED["DARTS_RNN_V2"], channels=4, num_classes=10
      ... )
      >>> text = dnas.Tokens(jnp.zeros((2, 3), int))
      >>> outputs, _ = network.apply(network.init(jax.random.key(0), text), {}, text)
      >>> outputs.logits.shape, outputs.hidden.shape
      ((2, 3, 10), (2, 3, 4))
    """
    if isinstance(ops, str):
        raise ValueError(f"ops is a tuple of names, such as ({ops[:60]!r},), not one name")
    for op in ops:
        one_of(RECURRENT_OPS, op=op)
    if not set(ops) - {"none"}:
        raise ValueError(
            f"a space needs an op besides none, got {ops}; choose from: {', '.join(ACTIVATIONS)}"
        )
    if num_nodes < 1:
        raise ValueError(
            f"a cell needs at least one node after the first, got num_nodes={num_nodes}"
        )
    at_least(1, most=MOST_NODES, num_nodes=num_nodes)
    nodes = tuple(range(1, 1 + num_nodes))
    edges = tuple((source, target) for target in nodes for source in range(target))
    spec = CellSpec(
        num_inputs=1, num_nodes=num_nodes, edges=edges, ops=tuple(ops), concat=nodes, keep=1
    )

    def network(genotype: Genotype, **options) -> Model:
        check_genotype(space, genotype)
        return _network(genotype, **options)

    space = SearchSpace(
        name,
        {"recurrent": spec},
        _layers,
        functools.partial(_supernet, spec),
        network,
        channels=300,
        num_cells=1,
        final_channels=850,
        final_cells=1,
        family="recurrent",
        inputs="tokens",
        parts=lambda **sizes: _parts(spec, **sizes),
        part_network=_part_network,
    )
    return space


@checked
def _parts(
    spec: CellSpec, *, channels: int = 850, num_cells: int = 1, num_classes: int = 10_000
) -> NetworkParts:
    """The parts of a network that reads one token: joining it with the state, a product and an
    activation a node, the words."""
    _layers(channels=channels, num_cells=num_cells)
    fixed = (
        Part("joined_word", 2 * channels, channels, 1, 1),
        Part("tied_classifier", channels, num_classes, 1, 1),
    )
    row = tuple(None if op == "none" else Part(op, channels, channels, 1, 1) for op in spec.ops)
    return NetworkParts(
        {"recurrent": spec},
        fixed,
        (LayerParts("recurrent", (row,) * len(spec.edges)),),
    )


def _part_network(part: Part) -> PartNetwork:
    """A part as a network on [B, 1, 1, C]; the tied classifier has the matrix that embeds words
    too."""
    before, after = part.channels_in, part.channels_out
    if part.op not in (*ACTIVATIONS, "joined_word", "tied_classifier"):
        raise ValueError(
            f"no module is known for the part {part}; a recurrent network has none of that name"
        )

    def init(key: Key, x: Array) -> PyTree:
        del x
        shape = (after, before) if part.op == "tied_classifier" else (before, 2 * after)
        params = {"kernel": jax.random.uniform(key, shape, minval=-_INIT_RANGE, maxval=_INIT_RANGE)}
        return {
            "params": params | ({"bias": jnp.zeros(after)} if part.op == "tied_classifier" else {})
        }

    def apply(variables: PyTree, x: Array) -> Array:
        params, x = variables["params"], x[:, 0, 0]
        if part.op == "tied_classifier":
            y = x @ params["kernel"].T + params["bias"]
        elif part.op == "joined_word":
            gate, inner = jnp.split(x @ params["kernel"], 2, axis=-1)
            y = x[:, after:] + jax.nn.sigmoid(gate) * (jnp.tanh(inner) - x[:, after:])
        else:
            y = _chosen(Edge(0, 1, part.op), {0: x}, lambda state: state @ params["kernel"])
        return y[:, None, None]

    return PartNetwork(init, apply)


@checked
def _layers(*, channels: int = 300, num_cells: int = 1) -> tuple[LayerSpec, ...]:
    """One layer, that is run once a token; a text has no height and width."""
    at_least(1, most=MOST_CHANNELS, channels=channels)
    if num_cells != 1:
        raise ValueError(f"the language model has one cell, got num_cells={num_cells}")
    return (LayerSpec("recurrent", channels, 1, (1, 1)),)


@checked
def _supernet(
    spec: CellSpec,
    *,
    channels: int = 300,
    num_cells: int = 1,
    num_classes: int = 10_000,
    dropout: Dropout = _SEARCH_DROPOUT,
    norm: bool = True,
    remat: bool = True,
    dtype=None,
) -> Model:
    _check(channels, num_cells, num_classes, dropout, dtype)

    ops = tuple(op for op in spec.ops if op != "none")  # which adds nothing
    columns = jnp.array([spec.ops.index(op) for op in ops])
    mixed = _mixed_node(tuple(ACTIVATIONS[op] for op in ops), norm)

    def node_of(mix: Mix) -> _Node:
        rows = mix["recurrent"][:, columns]
        # [E, O, 1 or B, 1]: one mix for the batch, or one for each of its texts.
        rows = rows.reshape(*rows.shape[:2], -1, 1)

        def node(target: int, states: Mapping[int, Array], project) -> Array:
            edges = spec.incoming(target)
            before = jnp.stack([states[spec.edges[edge][0]] for edge in edges])
            return mixed(rows[jnp.array(edges)].astype(before.dtype), before, project(before))

        return node

    return _model(
        node_of,
        spec.nodes,
        spec.concat,
        channels=channels,
        num_classes=num_classes,
        dropout=dropout,
        norm=norm,
        remat=remat,
        dtype=dtype,
    )


@checked
def _network(
    genotype: Genotype,
    *,
    channels: int = 850,
    num_cells: int = 1,
    num_classes: int = 10_000,
    dropout: Dropout = _FINAL_DROPOUT,
    norm: bool = False,
    remat: bool = False,
    dtype=None,
) -> Model:
    _check(channels, num_cells, num_classes, dropout, dtype)
    edges, concat = genotype.cells["recurrent"], genotype.concat_of("recurrent")
    nodes = sorted({edge.target for edge in edges})

    def node(target: int, states: Mapping[int, Array], project) -> Array:
        return _normalized(
            add_up(_chosen(edge, states, project) for edge in edges if edge.target == target), norm
        )

    return _model(
        lambda mix: node,
        nodes,
        concat,
        channels=channels,
        num_classes=num_classes,
        dropout=dropout,
        norm=norm,
        remat=remat,
        dtype=dtype,
    )


def _model(
    node_of: Callable[[Mix], _Node],
    nodes: Sequence[int],
    concat: Sequence[int],
    *,
    channels: int,
    num_classes: int,
    dropout: Dropout,
    norm: bool,
    remat: bool,
    dtype,
) -> Model:
    """The language model around a cell; `node_of(mix)` is what a node makes of those before it."""

    def init(key: Key, inputs: Tokens) -> PyTree:
        del inputs
        shapes = {"embedding": (num_classes, channels), "node_0": (2 * channels, 2 * channels)}
        shapes |= {f"node_{node}": (channels, 2 * channels) for node in nodes}
        keys = jax.random.split(key, len(shapes))
        weights = {
            name: jax.random.uniform(part, shape, minval=-_INIT_RANGE, maxval=_INIT_RANGE)
            for part, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        return {"params": weights | {"bias": jnp.zeros(num_classes)}}

    def apply(
        variables: PyTree,
        mix: Mix,
        inputs: Tokens,
        *,
        key: Key | None = None,
        train: bool = False,
        drop_path: Array | float = 0.0,
    ) -> tuple[Outputs, PyTree]:
        del drop_path
        node, (tokens, hidden) = node_of(mix), inputs
        batch, wide = len(tokens), variables["params"]["embedding"].dtype
        if hidden is None:
            hidden = jnp.zeros((batch, channels))
        weights, hidden = in_dtype(dtype, (variables["params"], hidden.astype(wide)))
        narrow = weights["embedding"].dtype
        shapes = ((num_classes, 1), *[(batch, channels)] * 4)
        masks = _masks(key, dropout if train else NO_DROPOUT, shapes, narrow)

        words = (
            weights["embedding"][tokens]
            * masks.words[tokens]
            * (masks.embedding * masks.inputs)[:, None]
        )
        of_words, of_hidden = jnp.split(weights["node_0"], 2)
        entering = words @ of_words  # of all tokens at once

        def step(hidden: Array, entering: Array) -> tuple[Array, Array]:
            gate, inner = jnp.split(entering + (hidden * masks.hidden) @ of_hidden, 2, axis=-1)
            first = hidden + jax.nn.sigmoid(gate) * (jnp.tanh(inner) - hidden)
            states = {0: _normalized(first, norm)}
            for target in nodes:
                states[target] = node(
                    target,
                    states,
                    lambda before, t=target: (before * masks.hidden) @ weights[f"node_{t}"],
                )
            hidden = add_up(states[number] for number in concat) / len(concat)
            return hidden, hidden

        step = jax.checkpoint(step) if remat else step
        states = lax.scan(step, hidden, entering.swapaxes(0, 1))[1].swapaxes(0, 1)
        logits = states * masks.output[:, None] @ weights["embedding"].T
        logits = logits.astype(wide) + weights["bias"].astype(wide)
        return Outputs(logits, hidden=states.astype(wide)), variables

    return Model(init, apply)


def _chosen(edge: Edge, states: Mapping[int, Array], project) -> Array:
    before = states[edge.source]
    if edge.op == "none":
        return jnp.zeros_like(before)
    gate, inner = jnp.split(project(before), 2, axis=-1)
    return before + jax.nn.sigmoid(gate) * (ACTIVATIONS[edge.op](inner) - before)


def _mixed_node(
    activations: tuple[Callable[[Array], Array], ...], norm: bool
) -> Callable[[Array, Array, Array], Array]:
    """Returns (shares [J, O, 1 or B, 1], states before [J, B, H], [c, g] [J, B, 2H]) -> state [B,
    H] of a node with J edges.

    It is the sum over edges and ops of share * (before + sig(c) (f(g) - before)). Forward and
    backward are each one call that XLA does not inline: it would fuse the activations into every
    sum of the gradient, and compute them once for each.
    """

    def forward(shares: Array, before: Array, both: Array) -> Array:
        gate, inner = jnp.split(both, 2, axis=-1)
        gate = jax.nn.sigmoid(gate)
        activated = add_up(
            shares[:, column] * activation(inner) for column, activation in enumerate(activations)
        )
        return _normalized((shares.sum(1) * (1 - gate) * before + gate * activated).sum(0), norm)

    def backward(
        shares: Array, before: Array, both: Array, direction: Array
    ) -> tuple[Array, Array, Array]:
        return jax.vjp(forward, shares, before, both)[1](direction)

    forward_call, backward_call = fence(forward), fence(backward)
    node = jax.custom_vjp(forward_call)
    node.defvjp(
        lambda *args: (forward_call(*args), args),
        lambda args, direction: backward_call(*args, direction),
    )
    return node


def _check(channels: int, num_cells: int, num_classes: int, dropout: Dropout, dtype) -> None:
    _layers(channels=channels, num_cells=num_cells)
    if num_classes < 1:
        raise ValueError(f"a vocabulary has at least one word, got num_classes={num_classes}")
    if not all(0 <= rate < 1 for rate in dropout):
        raise ValueError(f"rates of dropout lie from 0 up to but not 1, got {dropout}")
    check_dtype(dtype)


class _Masks(NamedTuple):
    """Zeros and 1 / (1 - rate), of each rate of a `Dropout`; ones where nothing is dropped."""

    words: Array  # [V, 1]
    embedding: Array  # [B, H], as the others
    inputs: Array
    hidden: Array
    output: Array


def _masks(
    key: Key | None, dropout: Dropout, shapes: Sequence[tuple[int, int]], dtype: Any
) -> _Masks:
    if not any(dropout):
        return _Masks(*(jnp.ones(shape, dtype) for shape in shapes))
    if key is None:
        raise ValueError("dropout draws numbers: call apply with a key, or with train=False")
    masks = []
    for part, rate, shape in zip(jax.random.split(key, len(dropout)), dropout, shapes, strict=True):
        if rate:
            kept = jax.random.bernoulli(part, 1 - rate, shape)
            masks.append(kept.astype(dtype) / (1 - rate))
        else:
            masks.append(jnp.ones(shape, dtype))
    return _Masks(*masks)


def _normalized(state: Array, norm: bool) -> Array:
    """State [B, H] with mean 0 and variance 1 over the batch, where there is a norm."""
    if not norm:
        return state
    wide = state.astype(jnp.promote_types(state.dtype, jnp.float32))
    return ((wide - wide.mean(0)) * lax.rsqrt(wide.var(0) + _NORM_EPS)).astype(state.dtype)
