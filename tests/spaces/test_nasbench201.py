"""The NAS-Bench-201 space: the supernet at a one-hot mix is the network of the genotype, which is
the published one."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas import inherit_weights
from dnas.cells import final_norms, search_norms
from dnas.cells.layers import residual_layers
from dnas.selection import random_genotype
from dnas.spaces import nasbench201_space

SPACE = dnas.SPACES["nasbench201"]
SPEC = SPACE.cells["cell"]
SIZES = dict(channels=4, num_cells=6, num_classes=5)
KEY = jax.random.key(2)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
RESIDUAL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
GENOTYPES = {
    **{f"random_{seed}": random_genotype(jax.random.key(seed), SPACE) for seed in range(3)},
    "residual cell": dnas.Genotype.from_text(RESIDUAL),
    "all none": dnas.Genotype.from_text("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
    # An edge of `none` need not be listed.
    "one edge": dnas.Genotype("nasbench201", {"cell": [(0, 3, "nor_conv_3x3")]}),
}


def compiled(function):
    """jit, compiled in a hurry."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def supernet():
    """(weights, apply) of one supernet, compiled once."""
    made = SPACE.supernet(**SIZES)
    return compiled(weights_of(made))(KEY, IMAGES), compiled(logits_of(made))


@pytest.mark.parametrize("name", GENOTYPES)
def test_supernet_at_a_one_hot_mix_equals_the_network_of_the_genotype(name):
    genotype, (weights, apply) = GENOTYPES[name], supernet()
    network = SPACE.network(genotype, **SIZES, norms=search_norms, scan=True)
    variables = jax.eval_shape(network.init, KEY, IMAGES)
    # Every array must be inherited.
    variables = jax.tree.map(lambda array: jnp.full(array.shape, jnp.nan), variables)
    variables = inherit_weights(SPACE, genotype, weights, variables)
    expected = apply(weights, dnas.one_hot_mix(SPACE, genotype), IMAGES)
    both = compiled(
        lambda variables: [
            network.apply(variables, {}, IMAGES, key=KEY, train=train)[0].logits
            for train in (True, False)
        ]
    )
    for logits in both(variables):
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_different_genotypes_give_different_logits():
    weights, apply = supernet()
    mixes = [dnas.one_hot_mix(SPACE, GENOTYPES[name]) for name in ("random_0", "random_1")]
    first, second = (apply(weights, mix, IMAGES) for mix in mixes)
    assert abs(first - second).max() > 1e-2


@functools.cache
def loss_and_gradients(**more):
    made = SPACE.supernet(**SIZES, **more)
    affine = more.get("affine", False)
    weights = compiled(weights_of(SPACE.supernet(**SIZES, affine=affine)))(KEY, IMAGES)
    mix = {"cell": jax.nn.softmax(jax.random.normal(KEY, (6, 5)))}

    def loss(weights, mix, images):
        return jax.nn.log_softmax(logits_of(made)(weights, mix, images))[:, 0].sum()

    return compiled(jax.value_and_grad(loss, (0, 1, 2)))(weights, mix, IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"remat": False}, {"schedule": "waves"}], ids=str)
def test_every_schedule_computes_the_same_supernet(more):
    chex.assert_trees_all_close(
        loss_and_gradients(**more), loss_and_gradients(), rtol=1e-3, atol=1e-4
    )


def test_sampled_supernet_equals_the_weighted_one_at_a_one_hot_mix():
    weights, apply = supernet()
    sampled = compiled(logits_of(SPACE.supernet(**SIZES, sampled=True)))
    for seed in range(2):
        mix = {"cell": jax.nn.one_hot(jax.random.randint(jax.random.key(seed), (6,), 0, 5), 5)}
        np.testing.assert_allclose(
            sampled(weights, mix, IMAGES), apply(weights, mix, IMAGES), atol=1e-4
        )


def test_a_convolution_has_a_bias_exactly_where_its_norm_has_no_scale_and_shift():
    def names(norms):
        variables = jax.eval_shape(
            SPACE.network(GENOTYPES["residual cell"], **SIZES, norms=norms).init, KEY, IMAGES
        )
        return set(variables["params"]["cell_0"]["edge_0_1"]["nor_conv_3x3"])

    assert names(search_norms) == {"Conv_0", "bias"} and names(final_norms) == {
        "Conv_0",
        "BatchNorm_0",
    }
    for affine, expected in ((False, {"Conv_0", "bias"}), (True, {"Conv_0", "BatchNorm_0"})):
        weights = jax.eval_shape(weights_of(SPACE.supernet(**SIZES, affine=affine)), KEY, IMAGES)
        assert set(weights["cell_0"]["edges_stride_1"]["nor_conv_3x3"]) == expected
        block = weights["residual_1"]  # is no candidate
        assert (
            block["NorConv_0"]["BatchNorm_0"]["scale"].shape == (8,)
            and "bias" not in block["NorConv_0"]
        )


@pytest.mark.parametrize("scan", [False, True])
def test_a_scanned_network_trains_as_one_cell_after_another_and_drops_paths(scan):
    network = SPACE.network(GENOTYPES["residual cell"], **SIZES, scan=scan)
    variables = compiled(SPACE.network(GENOTYPES["residual cell"], **SIZES).init)(KEY, IMAGES)
    train = compiled(
        lambda variables, rate: network.apply(
            variables, {}, IMAGES, key=KEY, train=True, drop_path=rate
        )
    )
    outputs, updated = train(variables, jnp.float32(0.0))
    chex.assert_trees_all_equal_shapes_and_dtypes(updated, variables)
    for before, after in zip(
        *map(jax.tree.leaves, (variables["batch_stats"], updated["batch_stats"])), strict=True
    ):
        assert abs(before - after).max() > 0
    dropped, _ = train(variables, jnp.float32(0.5))
    assert abs(dropped.logits - outputs.logits).max() > 1e-3
    expected = _trained(variables)
    chex.assert_trees_all_close((outputs, updated), expected, atol=1e-4)


def _trained(variables):
    network = SPACE.network(GENOTYPES["residual cell"], **SIZES, remat=True)
    return compiled(lambda variables: network.apply(variables, {}, IMAGES, key=KEY, train=True))(
        variables
    )


def numpy_network(params, images):
    """The residual cell's network with search norms, by loops over the paper's description; one
    cell a stage."""

    def norm(x, affine=None):
        y = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return y * affine["scale"] + affine["bias"] if affine else y

    def conv(x, kernel, stride=1):
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        views = {
            (i, j): padded[:, i : i + height : stride, j : j + width : stride]
            for i in range(3)
            for j in range(3)
        }
        return sum(view @ kernel[place] for place, view in views.items())

    def relu(x):
        return np.maximum(x, 0)

    def cell(x, own):
        y = x
        for edge in ("edge_0_1", "edge_1_2"):
            op = own[edge]["nor_conv_3x3"]
            y = norm(conv(relu(y), op["Conv_0"]["kernel"]) + op["bias"])
        return x + y

    def block(x, own):
        y = norm(
            conv(relu(x), own["NorConv_0"]["Conv_0"]["kernel"], 2), own["NorConv_0"]["BatchNorm_0"]
        )
        y = norm(
            conv(relu(y), own["NorConv_1"]["Conv_0"]["kernel"]), own["NorConv_1"]["BatchNorm_0"]
        )
        mean = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
        return y + mean @ own["Dense_0"]["kernel"]

    x = norm(conv(images, params["Conv_0"]["kernel"]), params["BatchNorm_0"])
    x = cell(x, params["cell_0"])
    x = cell(block(x, params["residual_1"]), params["cell_1"])
    x = cell(block(x, params["residual_2"]), params["cell_2"])
    x = relu(norm(x, params["BatchNorm_1"])).mean((1, 2))
    return x @ params["classifier"]["dense"]["kernel"] + params["classifier"]["dense"]["bias"]


def test_network_of_the_residual_cell_equals_numpy():
    network = SPACE.network(
        GENOTYPES["residual cell"], channels=3, num_cells=3, num_classes=4, norms=search_norms
    )
    variables = network.init(KEY, IMAGES)
    params = jax.tree.map(lambda array: np.asarray(array, np.float64), variables["params"])
    logits = compiled(
        lambda variables: network.apply(variables, {}, IMAGES, key=KEY, train=True)[0].logits
    )(variables)
    np.testing.assert_allclose(
        logits, numpy_network(params, np.asarray(IMAGES, np.float64)), atol=1e-4
    )


IMAGE_SHAPES = [(28, 28, 1), (48, 64, 3), (96, 96, 3)]


@pytest.mark.parametrize("num_classes", [2, 7, 100])
@pytest.mark.parametrize("shape", IMAGE_SHAPES, ids=str)
def test_images_of_other_shapes_and_other_numbers_of_classes_have_logits(shape, num_classes):
    pictures = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    made = SPACE.supernet(channels=4, num_cells=3, num_classes=num_classes)
    weights = jax.eval_shape(weights_of(made), KEY, pictures)
    mix = {"cell": jax.ShapeDtypeStruct((6, 5), jnp.float32)}
    assert jax.eval_shape(logits_of(made), weights, mix, pictures).shape == (2, num_classes)
    network = SPACE.network(GENOTYPES["random_0"], channels=4, num_cells=3, num_classes=num_classes)
    variables = jax.eval_shape(network.init, KEY, pictures)
    outputs, _ = jax.eval_shape(
        lambda v, x: network.apply(v, {}, x, key=KEY, train=True), variables, pictures
    )
    assert outputs.logits.shape == (2, num_classes)


def test_images_that_are_not_square_run():
    weights, apply = supernet()
    logits = apply(weights, dnas.one_hot_mix(SPACE, GENOTYPES["random_0"]), IMAGES[:, :4])
    assert logits.shape == (4, 5) and np.isfinite(logits).all()


def test_layers_are_three_stages_of_equal_cells():
    layers = residual_layers(channels=16, num_cells=15, image_size=(28, 32))
    assert len(layers) == 15 and {layer.stride for layer in layers} == {1}
    assert [layer.channels for layer in layers] == [16] * 5 + [32] * 5 + [64] * 5
    assert [layers[n].size for n in (0, 5, 10)] == [(28, 32), (14, 16), (7, 8)]


def test_space_has_the_edges_and_ops_of_the_benchmark():
    assert SPEC.ops == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    text = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert [edge[:2] for edge in dnas.Genotype.from_text(text).cells["cell"]] == list(SPEC.edges)
    assert (SPACE.channels, SPACE.num_cells, SPACE.final_channels, SPACE.final_cells) == (
        16,
        15,
        16,
        15,
    )
    shape = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    weights = jax.eval_shape(weights_of(SPACE.supernet()), KEY, shape)
    assert sum(name.startswith("cell_") for name in weights) == 15


def test_random_genotypes_choose_evenly_among_all_five_ops():
    drawn = [random_genotype(key, SPACE).cells["cell"] for key in jax.random.split(KEY, 200)]
    counts = [sum(edge.op == op for edges in drawn for edge in edges) for op in SPEC.ops]
    assert all(len(edges) == 6 for edges in drawn)
    # P < 1e-4 with 4 degrees of freedom.
    assert sum((count - 240) ** 2 / 240 for count in counts) < 23


def test_a_variant_has_other_ops_and_nodes():
    space = nasbench201_space(name="pair", ops=("skip_connect", "nor_conv_1x1"), num_nodes=2)
    assert space.cells["cell"].edges == ((0, 1), (0, 2), (1, 2)) and space.cells["cell"].concat == (
        2,
    )
    made = space.supernet(**SIZES, partial_channels=2, dtype="bfloat16")
    weights = jax.eval_shape(weights_of(made), KEY, IMAGES)
    logits = jax.eval_shape(logits_of(made), weights, {"cell": jnp.ones((3, 2))}, IMAGES)
    assert (logits.shape, logits.dtype) == ((4, 5), jnp.float32)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: residual_layers(channels=4, num_cells=8, image_size=32),
            "multiple of 3, 15 in the published.*got 8 cells",
        ),
        (
            lambda: residual_layers(channels=4, num_cells=3, image_size=30),
            "30x30 cannot be halved 2 times.*multiples of 4",
        ),
        (
            lambda: residual_layers(channels=4, num_cells=3, image_size=32, stem="imagenet"),
            "stem 'imagenet' does not exist; choose from: cifar",
        ),
        (
            lambda: SPACE.network(GENOTYPES["random_0"], stem="imagenet"),
            "stem 'imagenet' does not exist; choose from: cifar",
        ),
        (lambda: SPACE.network(GENOTYPES["random_0"], auxiliary=True), "no auxiliary head"),
        (lambda: SPACE.network(dnas.PUBLISHED["DARTS_V1"]), "belongs to the space 'darts'"),
        (lambda: SPACE.supernet(partial_channels=3), "multiple of partial_channels"),
        (lambda: SPACE.supernet(sampled=True, schedule="waves"), "use schedule='edges'"),
        (lambda: SPACE.supernet(dtype="int8"), "int8"),
        (lambda: nasbench201_space(ops=("none",)), "an op besides none"),
        (lambda: nasbench201_space(num_nodes=0), "num_nodes=0"),
    ],
)
def test_what_does_not_fit_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
