"""Exported networks compute what they compute here."""

import jax
import jax.export
import numpy as np
import pytest
from exported import SIZES, covering, logits_by_jax, relative_error, samples, sizes_of, trained

import dnas
from dnas import export
from dnas.export import standard_ops
from dnas.export.functions import image_batch, network_logits
from dnas.hw_loss.measure_table import random_variables
from dnas.kernels.pooling import max_pool
from dnas.parts import Part

DARTS = dnas.SPACES["darts"]
SHAPE = (16, 16, 3)
COVERING = covering()


def run_onnx(model, images):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="the extra dnas[export] is not installed"
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.mark.parametrize("size", [(16, 16), (8, 12)])
def test_standard_ops_compute_the_same(size):
    network, variables = trained(DARTS, COVERING, (*size, 3), **SIZES)
    images = np.random.default_rng(1).normal(size=(2, *size, 3)).astype(np.float32)
    function = standard_ops(lambda images: network.apply(variables, {}, images)[0].logits, images)
    assert (
        relative_error(jax.jit(function)(images), logits_by_jax(network, variables, images)) < 1e-5
    )


@pytest.mark.parametrize("name", ["zeros inside", "all skip"])
def test_standard_ops_of_any_number_of_images_compute_the_same(name):
    network, variables = trained(dnas.SPACES["nasbench201"], samples()[name], SHAPE, **SIZES)
    x = image_batch(SHAPE, None)
    program = jax.export.export(jax.jit(standard_ops(network_logits(network, variables), x)))(x)
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, *SHAPE)).astype(np.float32)
        expected = logits_by_jax(network, variables, images)
        assert relative_error(program.call(images), expected) < 1e-5


def test_standard_ops_are_those_of_any_framework():
    network, variables = trained(DARTS, COVERING, SHAPE, **SIZES)
    x = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
    function = standard_ops(lambda images: network.apply(variables, {}, images)[0].logits, x)
    names = {equation.primitive.name for equation in jax.make_jaxpr(function)(x).eqns}
    # Norms are gone: neither square roots nor differences are left.
    assert not names & {"rsqrt", "sqrt", "sub", "depthwise_forward", "mean_pool_forward"}
    assert "conv_general_dilated" in names


def convolutions(function, *shape):
    """The convolutions among standard ops, and the names of all."""
    x = jax.ShapeDtypeStruct(shape, np.float32)
    equations = jax.make_jaxpr(standard_ops(function, x))(x).eqns
    return [own for own in equations if own.primitive.name == "conv_general_dilated"], {
        own.primitive.name for own in equations
    }


def test_a_factorized_reduction_is_one_convolution():
    part = Part("skip_connect", 4, 4, 8, 12, 2)
    network = DARTS.part_network(part)
    variables = random_variables(network.init, np.zeros((1, 8, 12, 4), np.float32))
    found, names = convolutions(lambda x: network.apply(variables, x), 1, 8, 12, 4)
    assert len(found) == 1 and not names & {"slice", "concatenate"}
    images = np.random.default_rng(0).normal(size=(2, 8, 12, 4)).astype(np.float32)
    function = standard_ops(lambda x: network.apply(variables, x), images)
    assert relative_error(function(images), network.apply(variables, images)) < 1e-6


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize(
    ("row", "column", "down", "right"), [(0, 0, 2, 2), (1, 1, 2, 2), (0, 1, 1, 2), (2, 0, 3, 1)]
)
def test_a_product_over_some_pixels_is_a_convolution_with_a_stride(size, row, column, down, right):
    images, weight = (
        np.random.default_rng(0).normal(size=(2, *size, 3)),
        np.random.default_rng(1).normal(size=(3, 5)),
    )
    images, weight = images.astype(np.float32), weight.astype(np.float32)

    def product(x):
        return x[:, row::down, column::right] @ weight

    def after_another(x):
        return product(x @ (weight @ weight.T))

    for function, count in ((product, 1), (after_another, 2)):
        found, names = convolutions(function, *images.shape)
        assert len(found) == count and "slice" not in names
        assert relative_error(standard_ops(function, images)(images), function(images)) < 1e-5


def test_slices_short_of_the_end_and_convolutions_of_different_images_are_computed_as_they_stand():
    images, weight = (
        np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32),
        np.ones((3, 2), np.float32),
    )

    def products(x):
        return jax.numpy.concatenate(
            [x[:, :5:2, ::2] @ weight, x[:, 1:6:2, ::2] @ weight, (x + x)[:, :6:2, ::2] @ weight],
            -1,
        )

    found, _ = convolutions(products, *images.shape)
    assert len(found) == 3
    assert relative_error(standard_ops(products, images)(images), products(images)) < 1e-6


def check_onnx_of_any_number(network, variables, shape):
    """One file reads one image, and three."""
    model = export.to_onnx(network, variables, shape)
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)
        found = run_onnx(model, images)
        assert relative_error(found, logits_by_jax(network, variables, images)) < 1e-4


def test_the_onnx_model_reads_any_number_of_images_or_as_many_as_it_is_made_for():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    network, variables = trained(DARTS, COVERING, SHAPE, **SIZES)
    check_onnx_of_any_number(network, variables, SHAPE)
    images = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    model = export.to_onnx(network, variables, SHAPE, batch_size=2)
    assert relative_error(run_onnx(model, images), logits_by_jax(network, variables, images)) < 1e-4
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", samples())
def test_onnx_models_of_known_networks_compute_the_same(name):
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    genotype = samples()[name]
    sizes, shape = sizes_of(genotype.space)
    network, variables = trained(dnas.SPACES[genotype.space], genotype, shape, **sizes)
    check_onnx_of_any_number(network, variables, shape)


@pytest.mark.slow
def test_the_onnx_model_of_the_published_network_computes_the_same():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    network, variables = trained(DARTS, dnas.PUBLISHED["DARTS_V2"], (32, 32, 3))
    images = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    model = export.to_onnx(network, variables, (32, 32, 3))
    assert relative_error(run_onnx(model, images), logits_by_jax(network, variables, images)) < 1e-4


@pytest.mark.parametrize(
    "name", [name for name, genotype in dnas.PUBLISHED.items() if genotype.space == "recurrent"]
)
def test_onnx_models_of_recurrent_cells_read_a_text_window_by_window(name):
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="the extra dnas[export] is not installed"
    )
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    network = dnas.SPACES["recurrent"].network(dnas.PUBLISHED[name], channels=12, num_classes=40)
    # Ten times as large as at the start, where activations are all but linear.
    tokens = np.random.default_rng(0).integers(0, 40, (2, 12)).astype(np.int32)
    variables = network.init(jax.random.key(0), dnas.Tokens(tokens))
    variables = jax.tree.map(lambda array: 10 * array, variables)
    expected, _ = network.apply(variables, {}, dnas.Tokens(tokens))
    model = export.language_model_to_onnx(network, variables, 4, batch_size=2)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    hidden, logits = np.zeros((2, 12), np.float32), []
    for window in np.split(tokens, 3, axis=1):
        own, states = session.run(["logits", "states"], {"tokens": window, "hidden": hidden})
        logits, hidden = [*logits, own], states[:, -1]
    assert relative_error(np.concatenate(logits, axis=1), np.asarray(expected.logits)) < 1e-4
    assert relative_error(hidden, np.asarray(expected.hidden[:, -1])) < 1e-4


def test_a_text_without_tokens_is_refused():
    network = dnas.SPACES["recurrent"].network(
        dnas.PUBLISHED["DARTS_RNN_V1"], channels=4, num_classes=5
    )
    with pytest.raises(ValueError, match="at least one token"):
        export.language_model_to_onnx(network, {}, 0)


def test_a_function_that_computes_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to export"):
        export.function_to_onnx(lambda x: x, jax.ShapeDtypeStruct((1, 4, 4, 2), np.float32))


def test_stablehlo_has_grouped_convolutions_and_no_sums_over_taps():
    network, variables = trained(DARTS, COVERING, SHAPE, **SIZES)
    text = export.to_stablehlo(network, variables, SHAPE)
    assert "feature_group_count = 4" in text
    assert "depthwise_forward" not in text


def test_sizes_that_no_image_has_are_refused():
    network, variables = trained(DARTS, COVERING, SHAPE, **SIZES)
    with pytest.raises(ValueError, match=r"image_shape is .* not \(16, 16\)"):
        export.to_onnx(network, variables, (16, 16))
    with pytest.raises(ValueError, match="at least one at once"):
        export.to_stablehlo(network, variables, SHAPE, batch_size=0)


def test_strided_pooling_is_one_node_and_nothing_is_left_over():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    network, variables = trained(DARTS, COVERING, SHAPE, **SIZES)
    graph = export.to_onnx(network, variables, SHAPE).graph
    pools = [node for node in graph.node if node.op_type in ("MaxPool", "AveragePool")]
    strides = [tuple(a.ints) for node in pools for a in node.attribute if a.name == "strides"]
    assert strides.count((2, 2)) > 0 and not any(
        node.op_type in ("Pad", "Mul") for node in graph.node
    )
    assert {tensor.name for tensor in graph.initializer} <= {
        name for node in graph.node for name in node.input
    }


def test_strided_pooling_that_several_edges_read_is_one_node_too():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    images = np.random.default_rng(0).normal(size=(1, 8, 12, 4)).astype(np.float32)

    def two_edges(images):
        return max_pool(images, 2) * 2 - jax.numpy.tanh(max_pool(images, 2))

    model = export.function_to_onnx(two_edges, images)
    names = [node.op_type for node in model.graph.node]
    assert names.count("MaxPool") == 1 and "Slice" not in names
    np.testing.assert_allclose(run_onnx(model, images), two_edges(images), atol=1e-6)


def test_pooling_that_is_read_whole_as_well_stays_as_it_is():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype(np.float32)

    def whole_and_strided(images):
        return max_pool(images, 2).sum((1, 2)) + max_pool(images).sum((1, 2))

    for function in (max_pool, whole_and_strided):
        model = export.function_to_onnx(function, images)
        np.testing.assert_allclose(run_onnx(model, images), function(images), rtol=1e-5)


@pytest.mark.parametrize("op", ["max_pool_3x3", "avg_pool_3x3"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_strided_pooling_alone_computes_the_same(op, size):
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    network = DARTS.part_network(Part(op, 4, 4, *size, 2))
    images = np.random.default_rng(1).normal(size=(1, *size, 4)).astype(np.float32)
    variables = network.init(jax.random.key(0), images)
    model = export.function_to_onnx(lambda images: network.apply(variables, images), images)
    assert not any(node.op_type in ("Slice", "Pad") for node in model.graph.node)
    np.testing.assert_allclose(run_onnx(model, images), network.apply(variables, images), atol=1e-6)


def test_a_slice_that_keeps_less_than_every_second_position_stays():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    images = np.random.default_rng(1).normal(size=(1, 8, 8, 4)).astype(np.float32)

    def part_of_a_pool(images):
        return max_pool(images)[:, :4:2, :4:2, :2]

    model = export.function_to_onnx(part_of_a_pool, images)
    np.testing.assert_allclose(run_onnx(model, images), part_of_a_pool(images), atol=1e-6)


def test_a_network_whose_cells_have_no_path_is_a_constant():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    genotype = dnas.Genotype.from_text(
        "|none~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"
    )
    network, variables = trained(dnas.SPACES["nasbench201"], genotype, SHAPE, **SIZES)
    check_onnx_of_any_number(network, variables, SHAPE)


def test_what_leads_nowhere_is_not_exported():
    """A convolution between two edges of `none`, zeros that are added, and a sum that two edges
    read."""
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    space, sizes = dnas.SPACES["nasbench201"], {"channels": 4, "num_cells": 3, "num_classes": 5}

    def count(text, op):
        network, variables = trained(space, dnas.Genotype.from_text(text), SHAPE, **sizes)
        return sum(
            node.op_type == op for node in export.to_onnx(network, variables, SHAPE).graph.node
        )

    one = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    dead = "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|none~2|"
    twice = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|avg_pool_3x3~2|"
    assert count(dead, "Conv") == count(one, "Conv") == count(twice, "Conv")
    assert count(dead, "Add") == count(one, "Add")
