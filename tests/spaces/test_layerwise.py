"""FBNet's and ProxylessNAS's spaces: sizes as published, exact counts, and a supernet that equals
each of its networks."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas.cells import BLOCKS, search_norms
from dnas.contracts import check_relaxation, check_selection, check_space
from dnas.hw_loss import count_network, count_supernet
from dnas.relax import RELAXATIONS
from dnas.selection import argmax_edges, random_genotype, skip_budget, threshold, top_edges
from dnas.spaces import Chain, Stage, fbnet_space, layerwise_space, proxylessnas_space

FULL = {name: dnas.SPACES[name] for name in ("fbnet", "proxylessnas")}
TINY = {
    "fbnet": fbnet_space(name="tiny_fbnet", stages=((16, 1, 1), (24, 3, 2)), head=16),
    "proxylessnas": proxylessnas_space(name="tiny_proxylessnas", stages=((24, 3, 2),), head=16),
}
SIZES = {
    name: dict(channels=8, num_cells=space.num_cells, num_classes=3) for name, space in TINY.items()
}
KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (4, 7, 5, 1))
IMAGENET = dict(num_classes=1000, image_size=224, stem="imagenet")


@pytest.fixture(scope="module", params=TINY)
def built(request):
    """(space, weights, apply, sizes) of a small supernet."""
    space, sizes = TINY[request.param], SIZES[request.param]
    supernet = space.supernet(**sizes)
    return space, jax.jit(weights_of(supernet))(KEY, IMAGES), jax.jit(logits_of(supernet)), sizes


def mix_of(space, genotype):
    return dnas.one_hot_mix(space, genotype)


def test_supernet_at_a_one_hot_mix_equals_the_network(built):
    space, weights, apply, sizes = built
    genotype = random_genotype(KEY, space)
    network = space.network(genotype, **sizes, norms=search_norms)
    variables = dnas.inherit_weights(
        space, genotype, weights, jax.jit(network.init)(jax.random.key(9), IMAGES)
    )
    expected = jax.jit(
        lambda variables: network.apply(variables, {}, IMAGES, key=KEY, train=True)[0].logits
    )(variables)
    assert jnp.allclose(apply(weights, mix_of(space, genotype), IMAGES), expected, atol=1e-4)


def test_every_block_of_every_layer_counts_in_the_mix(built):
    space, weights, apply, _ = built
    (spec,) = space.cells.values()
    one_hots = {}
    for seed in range(4):
        genotype = random_genotype(jax.random.key(seed), space)
        one_hots[genotype] = np.asarray(apply(weights, mix_of(space, genotype), IMAGES))
    for (one, logits), (other, others) in itertools.combinations(one_hots.items(), 2):
        assert one == other or not np.allclose(logits, others, atol=1e-3)
    mix = jnp.asarray(
        spec.choices.allowed / spec.choices.allowed.sum(1, keepdims=True), jnp.float32
    )
    # Weights of blocks that a layer does not have change nothing.
    absent = mix + 5.0 * ~spec.choices.allowed
    assert (
        apply(weights, {"layers": mix}, IMAGES) == apply(weights, {"layers": absent}, IMAGES)
    ).all()


def test_per_sample_mixes_that_agree_equal_one_mix(built):
    space, weights, apply, _ = built
    rows = mix_of(space, random_genotype(KEY, space))["layers"]
    each = jnp.repeat(rows[..., None], len(IMAGES), -1)
    assert jnp.allclose(
        apply(weights, {"layers": each}, IMAGES),
        apply(weights, {"layers": rows}, IMAGES),
        atol=1e-4,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "option", [{"sampled": True}, {"remat": False}], ids=["sampled", "no remat"]
)
def test_option_changes_neither_logits_nor_the_gradients_of_what_runs(built, option):
    space, weights, _, sizes = built
    mix = mix_of(space, random_genotype(KEY, space))

    def gradients(supernet):
        def loss(weights, mix):
            logits = logits_of(supernet)(weights, mix, IMAGES)
            return (logits**2).sum(), logits

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, mix)

    (_, logits), (of_weights, of_mix) = gradients(space.supernet(**sizes))
    (_, others), (other_weights, other_mix) = gradients(space.supernet(**sizes, **option))
    assert jnp.allclose(logits, others, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), of_weights, other_weights
    )
    chosen = mix["layers"] > 0 if "sampled" in option else jnp.ones_like(mix["layers"], bool)
    np.testing.assert_allclose(
        jnp.where(chosen, of_mix["layers"], 0), other_mix["layers"], atol=2e-3
    )


def test_layers_of_fbnet_have_the_published_sizes():
    layers = FULL["fbnet"].layers(channels=16, num_cells=22, image_size=224, stem="imagenet")
    assert [layer.channels for layer in layers] == [
        16,
        *[24] * 4,
        *[32] * 4,
        *[64] * 4,
        *[112] * 4,
        *[184] * 4,
        352,
    ]
    assert [n for n, layer in enumerate(layers) if layer.stride == 2] == [1, 5, 9, 17]
    assert layers[0].size == (112, 112) and layers[-1].size == (7, 7)


def test_layers_of_proxylessnas_have_the_published_sizes():
    layers = FULL["proxylessnas"].layers(channels=32, num_cells=21, image_size=224, stem="imagenet")
    assert [layer.channels for layer in layers] == [
        *[24] * 4,
        *[40] * 4,
        *[80] * 4,
        *[96] * 4,
        *[192] * 4,
        320,
    ]
    assert [n for n, layer in enumerate(layers) if layer.stride == 2] == [0, 4, 8, 16]
    assert layers[0].size == (112, 112) and layers[-1].size == (7, 7)


@pytest.mark.parametrize("name", FULL)
def test_the_stem_for_small_images_strides_two_times_less(name):
    space = FULL[name]
    sizes = dict(channels=space.channels, num_cells=space.num_cells)
    small, large = (
        space.layers(**sizes, image_size=size, stem=stem)
        for size, stem in ((32, "cifar"), (128, "imagenet"))
    )
    assert small[-1].size == large[-1].size == (4, 4)
    assert (
        sum(layer.stride == 2 for layer in small) == sum(layer.stride == 2 for layer in large) - 1
    )


@pytest.mark.parametrize("name", FULL)
def test_half_the_channels_are_the_width_multiplier_one_half(name):
    space = FULL[name]
    factory = {"fbnet": fbnet_space, "proxylessnas": proxylessnas_space}[name]
    sizes = dict(num_cells=space.num_cells, image_size=32)
    half = space.layers(channels=space.channels // 2, **sizes)
    assert half == factory(width=0.5).layers(channels=space.channels, **sizes)
    full = space.layers(channels=space.channels, **sizes)
    for one, other in zip(half, full, strict=True):
        assert one.channels % 8 == 0 and abs(one.channels - other.channels / 2) <= 4


def block_counts(inputs, outputs, kernel, expansion, groups, stride, size, expands=True):
    """(params, macs) of a block from the paper's description, scale and shift of norms included."""
    inner, out = inputs * expansion, -(-size // stride)
    first = inputs * inner // groups if expands else 0
    params = (
        first
        + 2 * inner * expands
        + kernel**2 * inner
        + 2 * inner
        + inner * outputs // groups
        + 2 * outputs
    )
    return params, first * size**2 + (kernel**2 * inner + inner * outputs // groups) * out**2


def fbnet_by_formula(genotype, head=1984, expand_ones=True):
    params, macs, inputs, size = 27 * 16 + 32, 27 * 16 * 112**2, 16, 112
    layers = FULL["fbnet"].layers(channels=16, num_cells=22, image_size=224, stem="imagenet")
    for edge, layer in zip(genotype.cells["layers"], layers, strict=True):
        if edge.op == "skip_connect":
            own = (0, 0)
            if layer.stride > 1 or inputs != layer.channels:
                own = (
                    inputs * layer.channels + 2 * layer.channels,
                    inputs * layer.channels * (size // layer.stride) ** 2,
                )
        else:
            kernel, expansion, *groups = (int(word[1:]) for word in edge.op.split("_"))
            sizes = (kernel, expansion, *(groups or [1]), layer.stride, size)
            own = block_counts(inputs, layer.channels, *sizes, expands=expansion > 1 or expand_ones)
        params, macs, inputs, size = (
            params + own[0],
            macs + own[1],
            layer.channels,
            size // layer.stride,
        )
    return (
        params + inputs * head + 2 * head + 1000 * head + 1000,
        macs + inputs * head * size**2 + head * 1000,
    )


FBNETS = {"FBNET_A": dict(head=1504), "FBNET_B": {}, "FBNET_C": {}}


@pytest.mark.parametrize("name", FBNETS)
def test_counts_of_fbnets_equal_the_formula(name):
    genotype = dnas.PUBLISHED[name]
    for options in (FBNETS[name], {**FBNETS[name], "expand_ones": False}):
        assert count_network(fbnet_space(**options), genotype, **IMAGENET) == fbnet_by_formula(
            genotype, **options
        )


def other_block(genotype, layer, op):
    edges = [
        edge._replace(op=op) if edge.source == layer else edge for edge in genotype.cells["layers"]
    ]
    return dnas.Genotype(genotype.space, {"layers": edges}, genotype.concat)


def test_published_totals_decide_between_two_listings_of_fbnets():
    """Released with the models in 2019: multiply-adds, and params without those of norms and the
    bias of the classifier."""
    macs = {
        name: fbnet_by_formula(dnas.PUBLISHED[name], **options)[1]
        for name, options in FBNETS.items()
    }
    # A block that was released as two 3x3 depthwise convolutions is one of 5x5 in the listings: 25
    #   - 18 = 7 taps a channel.
    cascade = 7 * 6 * 32 * 28**2, 7 * 6 * 112 * 14**2
    assert macs["FBNET_A"] == 249_921_848
    assert macs["FBNET_B"] - cascade[0] == 295_561_032
    assert macs["FBNET_C"] - sum(cascade) == 382_984_480
    # The other entries of the listings are off by millions.
    assert (
        fbnet_by_formula(other_block(dnas.PUBLISHED["FBNET_A"], 15, "k5_e1"), 1504)[1]
        == 238_989_752
    )
    other = other_block(dnas.PUBLISHED["FBNET_B"], 10, "k5_e6")
    assert fbnet_by_formula(other)[1] == 306_210_888
    # They are those of the present mobile-vision, which counts the average pool of 7x7 too and
    # leaves out what expands by one.
    today = {
        "FBNET_A": fbnet_by_formula(dnas.PUBLISHED["FBNET_A"], 1504, False)[1] + 49 * 1504,
        "FBNET_B": fbnet_by_formula(other, expand_ones=False)[1] + 49 * 1984,
        "FBNET_C": fbnet_by_formula(dnas.PUBLISHED["FBNET_C"], expand_ones=False)[1] + 49 * 1984,
    }
    assert {name: round(number / 1e6, 1) for name, number in today.items()} == {
        "FBNET_A": 244.5,
        "FBNET_B": 291.1,
        "FBNET_C": 378.2,
    }


def stages_of_widths(*widths):
    return [
        (width, *rest)
        for width, rest in zip(
            widths, [(4, 2), (4, 2), (4, 2), (4, 1), (4, 2), (1, 1)], strict=True
        )
    ]


RELEASED = {
    "PROXYLESS_MOBILE": (dict(stages=stages_of_widths(32, 40, 80, 96, 192, 320)), 4_080_512),
    "PROXYLESS_CPU": (
        dict(stem=40, first=24, stages=stages_of_widths(32, 48, 88, 104, 216, 360), head=1432),
        4_361_648,
    ),
    "PROXYLESS_GPU": (
        dict(stem=40, first=24, stages=stages_of_widths(32, 56, 112, 128, 256, 432), head=1728),
        7_119_848,
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_params_of_proxylessnas_at_the_released_widths_are_the_published_ones(name):
    options, params = RELEASED[name]
    assert (
        count_network(proxylessnas_space(**options), dnas.PUBLISHED[name], **IMAGENET).params
        == params
    )


def test_params_of_fbnet_c_are_those_of_its_reproductions():
    assert fbnet_by_formula(dnas.PUBLISHED["FBNET_C"])[0] == 5_572_200


SHAPES = [((28, 28, 1), 2), ((48, 64, 3), 7), ((96, 96, 3), 100), ((8, 8, 1), 10)]


@pytest.mark.parametrize("name", ["fbnet", pytest.param("proxylessnas", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape, classes", SHAPES[:2], ids=str)
def test_images_of_any_size_fit_the_network(name, shape, classes):
    space = FULL[name]
    network = space.network(random_genotype(KEY, space), channels=8, num_classes=classes)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(network.init, KEY, images)
    outputs, _ = jax.eval_shape(partial(network.apply, train=True, key=KEY), variables, {}, images)
    assert outputs.logits.shape == (2, classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("shape, classes", SHAPES, ids=str)
def test_images_of_any_size_fit_the_supernet_and_the_network(name, shape, classes):
    supernet = FULL[name].supernet(channels=8, num_classes=classes)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    test_images_of_any_size_fit_the_network(name, shape, classes)
    weights = jax.eval_shape(weights_of(supernet), KEY, images)
    (spec,) = FULL[name].cells.values()
    mix = {"layers": jnp.zeros((len(spec.edges), len(spec.ops)))}
    assert jax.eval_shape(logits_of(supernet), weights, mix, images).shape == (2, classes)


def test_drop_path_and_bfloat16_reach_the_network(built):
    space, _, _, sizes = built
    genotype = random_genotype(KEY, space, skip_budget(0, kind="layers"))
    network = space.network(genotype, **sizes)
    variables = jax.eval_shape(network.init, KEY, IMAGES)
    half = space.network(genotype, **sizes, dtype="bfloat16", remat=True)
    outputs, updated = jax.eval_shape(
        partial(half.apply, key=KEY, train=True, drop_path=0.5), variables, {}, IMAGES
    )
    assert outputs.logits.shape == (len(IMAGES), 3) and jax.tree.structure(
        updated
    ) == jax.tree.structure(variables)
    variables = jax.jit(network.init)(KEY, IMAGES)
    train = jax.jit(
        lambda key, rate: (
            network.apply(variables, {}, IMAGES, key=key, train=True, drop_path=rate)[0].logits
        )
    )
    assert not jnp.allclose(train(KEY, 0.5), train(jax.random.key(1), 0.5))
    assert jnp.allclose(train(KEY, 0.0), train(jax.random.key(1), 0.0))


@pytest.mark.parametrize("name", TINY)
def test_a_small_variant_keeps_the_contract_of_spaces(name):
    check_space(TINY[name])


def test_a_supernet_costs_what_its_blocks_cost_together():
    blocks = {op: BLOCKS[op] for op in ("k3_e3", "k5_e1_g2")}
    space = layerwise_space("two", Chain(8, (Stage(8, 1), Stage(16, 1, 2)), 16), blocks)
    sizes = dict(num_classes=3, image_size=8)
    each = [
        count_network(space, dnas.Genotype.from_text(f"two: {op}, {op}"), **sizes) for op in blocks
    ]
    # Stem, head and classifier, which each network has; nothing strides twice.
    around = 27 * 8 * 64 + 16 * 16 * 64 + 16 * 3
    assert count_supernet(space, **sizes).macs == sum(count.macs for count in each) - around


NO_CHAIN = ("edge_weights",)  # one edge enters each node: nothing to weigh against


@pytest.mark.slow
@pytest.mark.parametrize("relax", [name for name in RELAXATIONS if name not in NO_CHAIN])
def test_relaxation_keeps_its_contract_on_layers(relax):
    check_relaxation(RELAXATIONS[relax](), FULL["fbnet"].cells["layers"])


SELECTIONS = {
    "argmax_edges": argmax_edges(),
    "default": dnas.default_selection,
    "top_edges": top_edges(1),
    "threshold": threshold(k=1),
    "skip_budget": skip_budget(5, kind="layers"),
}


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("select", SELECTIONS)
def test_selection_keeps_its_contract_on_layers(select, name):
    check_selection(SELECTIONS[select], FULL[name])


def test_proxylessnas_skips_no_layer_that_changes_size():
    space = FULL["proxylessnas"]
    (spec,) = space.cells.values()
    mix = {
        "layers": np.where([op == "skip_connect" for op in spec.ops], 0.9, 0.1) * np.ones((21, 1))
    }
    skipped = {
        edge.source
        for edge in dnas.default_selection(space, mix).cells["layers"]
        if edge.op == "skip_connect"
    }
    assert skipped == set(range(21)) - {0, 4, 8, 12, 16, 20}
    assert skip_budget(2, kind="layers")(space, mix).count("skip_connect") == {"layers": 2}


BAD = {
    "num_cells": (
        lambda: FULL["fbnet"].supernet(num_cells=8),
        "has 22 layers, and num_cells is their number; got 8",
    ),
    "layers": (lambda: FULL["fbnet"].layers(channels=16, num_cells=20, image_size=32), "got 20"),
    "auxiliary": (
        lambda: FULL["fbnet"].network(dnas.PUBLISHED["FBNET_C"], auxiliary=True),
        "no auxiliary head",
    ),
    "stem": (
        lambda: FULL["fbnet"].supernet(stem="mnist"),
        "'mnist' does not exist; choose from: cifar, imagenet",
    ),
    "channels": (lambda: FULL["fbnet"].supernet(channels=0), "channels is a whole number from 1"),
    "image": (
        lambda: FULL["fbnet"].layers(channels=16, num_cells=22, image_size=0),
        "at least one pixel",
    ),
    "dtype": (lambda: FULL["fbnet"].supernet(dtype="int8"), "floating-point"),
    "width": (lambda: fbnet_space(width=0.0), "multiplier is positive"),
    "stages": (lambda: fbnet_space(stages=()), "all from 1 on"),
    "a layer too few": (
        lambda: FULL["fbnet"].network(dnas.Genotype("fbnet", {"layers": [(0, 1, "k3_e1")]})),
        "one block for each of 22 layers",
    ),
    "a skip that cannot be": (
        lambda: FULL["proxylessnas"].network(
            other_block(dnas.PUBLISHED["PROXYLESS_CPU"], 4, "skip_connect")
        ),
        "'skip_connect' is not among those of edge 4 -> 5",
    ),
    "inside": (
        lambda: layerwise_space(
            "x", Chain(8, (Stage(8, 1),), 8), {"a": BLOCKS["k3_e1"]}, inside=("b",)
        ),
        "'b'.*not among the blocks a",
    ),
    "nothing outside": (
        lambda: layerwise_space(
            "x", Chain(8, (Stage(8, 1),), 8), {"a": BLOCKS["k3_e1"]}, inside=("a",)
        ),
        "needs a block",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_with_the_reason(name):
    function, reason = BAD[name]
    with pytest.raises(ValueError, match=reason):
        function()
