"""Parts: what a space lists is what its networks are made of, and each is a network of its own."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import pytest

import dnas
from dnas.cells.norms import final_norms
from dnas.cells.ops import OPS
from dnas.cells.parts import part_network
from dnas.hw_loss import count_network, count_table, genotype_cost
from dnas.parts import Part
from dnas.selection import random_genotype
from dnas.space import SearchSpace

SIZES = {
    "small": dict(channels=4, num_cells=4, num_classes=7, image_size=(16, 24), image_channels=1),
    "imagenet": dict(channels=6, num_cells=3, num_classes=11, image_size=64, stem="imagenet"),
}
IMAGES = [name for name, space in dnas.SPACES.items() if space.inputs == "images"]


def sizes_of(space, own):
    """The sizes that fit the space: some have another number of cells, and some no imagenet
    stem."""
    for num_cells in (SIZES[own]["num_cells"], 3, space.num_cells):
        sizes = {**SIZES[own], "num_cells": num_cells}
        for stem in (sizes.get("stem", "cifar"), "cifar"):
            with contextlib.suppress(ValueError):
                space.layers(
                    channels=sizes["channels"],
                    num_cells=num_cells,
                    image_size=sizes["image_size"],
                    stem=stem,
                )
                return {**sizes, "stem": stem}
    raise ValueError(space.name)


# The stem of ImageNet is the same code for all spaces of a kind.
OFTEN = {("small", name) for name in IMAGES} | {("imagenet", name) for name in ("nasbench201",)}


@pytest.mark.parametrize(
    ("own", "name"),
    [
        pair if pair in OFTEN else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in itertools.product(SIZES, IMAGES)
    ],
)
def test_the_parts_of_a_genotype_count_what_its_network_counts(name, own):
    space = dnas.SPACES[name]
    sizes = sizes_of(space, own)
    table = count_table(space, **sizes)
    genotype = random_genotype(jax.random.key(len(name)), space)
    counts = count_network(space, genotype, **sizes)
    assert genotype_cost(table, space, genotype, metric="macs", **sizes) == counts.macs
    assert genotype_cost(table, space, genotype, metric="params", **sizes) == counts.params


def test_the_published_counts_are_those_of_the_parts_of_the_published_network():
    space = dnas.SPACES["darts"]
    table = count_table(space)
    assert genotype_cost(table, space, dnas.PUBLISHED["DARTS_V2"], metric="macs") == 528_359_040
    assert genotype_cost(table, space, dnas.PUBLISHED["DARTS_V2"], metric="params") == 3_349_342


@pytest.mark.parametrize("op", [op for op in OPS if op != "none"])
def test_the_network_of_an_op_computes_the_op(op):
    part, x = Part(op, 8, 8, 6, 4, 2), jax.random.normal(jax.random.key(0), (2, 6, 4, 8))
    network = part_network(part)
    variables = jax.jit(network.init)(jax.random.key(1), x)
    module = OPS[op](channels=8, stride=2, norms=final_norms(False))
    y = jax.jit(network.apply)(variables, x)
    assert y.shape == (2, 3, 2, 8)
    assert jnp.array_equal(y, jax.jit(module.apply)(variables, x))


def test_bytes_are_input_output_and_weights_once():
    sizes = dict(channels=4, num_cells=1, image_size=8)
    rows = count_table(dnas.SPACES["darts"], **sizes).rows
    layers = dnas.SPACES["darts"].parts(**sizes)
    stem, *_, classifier = layers.fixed
    # 3x3 kernel, four numbers a channel of a norm; the only cell is a reduction, of 4 nodes of 8
    # channels, 4x4.
    assert rows["bytes", stem].mean == 4 * (64 * 3 + 64 * 12 + 9 * 3 * 12 + 4 * 12)
    assert rows["bytes", classifier].mean == 4 * (32 * 16 + 10 + 32 * 10 + 10)


def test_an_identity_moves_no_bytes_and_counts_nothing():
    table = count_table(dnas.SPACES["darts"], channels=4, num_cells=4)
    skips = [
        (metric, cost.mean)
        for (metric, part), cost in table.rows.items()
        if (part.op, part.stride) == ("skip_connect", 1)
    ]
    assert skips and all(mean == 0 for _, mean in skips)
    assert all(
        cost.mean > 0
        for (metric, part), cost in table.rows.items()
        if metric == "bytes" and part.op == "sep_conv_3x3"
    )


def test_choices_are_where_the_space_has_ops_but_none():
    for name in IMAGES:
        space = dnas.SPACES[name]
        layers = space.parts(**sizes_of(space, "small"))
        assert {layer.kind for layer in layers.layers} <= set(space.cells), name
        searched = layers.layers
        if name.endswith("all_skip"):  # a skip connection runs beside whatever op it is
            half = len(searched) // 2
            searched, beside = searched[:half], searched[half:]
            assert [
                [[p and "skip_connect" for p in row] for row in own.parts] for own in searched
            ] == [[[p and p.op for p in row] for row in own.parts] for own in beside]
        for layer in searched:
            spec = space.cells[layer.kind]
            for row, allowed in zip(layer.parts, spec.choices.allowed, strict=True):
                named = [part.op if part else None for part in row]
                assert named == [
                    op if may and op != "none" else None
                    for op, may in zip(spec.ops, allowed, strict=True)
                ]


def test_the_parts_of_a_recurrent_genotype_count_what_its_network_does_for_one_token():
    space, sizes = dnas.SPACES["recurrent"], {"channels": 4, "num_classes": 11}
    genotype = dnas.PUBLISHED["DARTS_RNN_V2"]
    network, table = space.network(genotype, **sizes), count_table(space, **sizes)
    text = dnas.Tokens(jnp.zeros((1, 1), int))
    variables = jax.eval_shape(network.init, jax.random.key(0), text)
    params = sum(array.size for array in jax.tree.leaves(variables))
    assert genotype_cost(table, space, genotype, metric="params", **sizes) == params
    # [x, h] W_0, eight nodes' products, and the words
    assert (
        genotype_cost(table, space, genotype, metric="macs", **sizes) == 8 * 8 + 8 * 4 * 8 + 4 * 11
    )


@pytest.mark.parametrize("op", ["tanh", "relu", "identity"])
def test_the_parts_of_a_recurrent_network_one_after_the_other_are_the_network(op):
    space = dnas.spaces.recurrent_space(num_nodes=1)
    sizes = {"channels": 3, "num_classes": 5}
    genotype = dnas.Genotype("recurrent", {"recurrent": [(0, 1, op)]})
    network = space.network(genotype, **sizes)
    hidden, token = jax.random.normal(jax.random.key(1), (2, 3)), jnp.array([[4], [1]])
    text = dnas.Tokens(token, hidden)
    variables = network.init(jax.random.key(0), text)
    variables = jax.tree.map(lambda array: 20 * array + 0.1, variables)
    outputs, _ = network.apply(variables, {}, text)
    weights = variables["params"]

    join, words = space.parts(**sizes).fixed
    x = jnp.concatenate([weights["embedding"][token[:, 0]], hidden], axis=-1)[:, None, None]
    x = space.part_network(join).apply({"params": {"kernel": weights["node_0"]}}, x)
    x = space.part_network(Part(op, 3, 3, 1, 1)).apply({"params": {"kernel": weights["node_1"]}}, x)
    params = {"kernel": weights["embedding"], "bias": weights["bias"]}
    found = space.part_network(words).apply({"params": params}, x)
    assert jnp.allclose(found[:, 0], outputs.logits, rtol=1e-5, atol=1e-6)


def test_a_part_without_a_module_is_refused():
    with pytest.raises(ValueError, match="no module is known for the part warp 8->8 4x4 stride 1"):
        part_network(Part("warp", 8, 8, 4, 4))
    with pytest.raises(ValueError, match="no module is known for the part warp 8->8 4x4 stride 1"):
        dnas.SPACES["recurrent"].part_network(Part("warp", 8, 8, 4, 4))


def test_a_space_that_does_not_list_its_parts_says_so():
    space = SearchSpace("made_up", dnas.SPACES["darts"].cells, None, None, None)
    with pytest.raises(ValueError, match="give the SearchSpace the fields parts"):
        count_table(space)
