"""The macro network: where reductions are, what the stems and the auxiliary head look like, and
what is refused."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.cells import final_norms, search_norms
from dnas.cells.heads import AuxiliaryHead, Classifier
from dnas.cells.init import init_variables
from dnas.cells.layers import stack_layers
from dnas.cells.networks import CellStack
from dnas.space import LayerSpec


def images(*size, channels=3):
    return jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)


def shapes(module, *args):
    return jax.eval_shape(
        lambda *args: nn.meta.unbox(module.init_with_output(jax.random.key(0), *args)), *args
    )


class PlainCell(nn.Module):
    """A cell without weights: four copies of the mean of its inputs, subsampled where the layer
    strides."""

    layer: LayerSpec

    @nn.compact
    def __call__(self, inputs):
        for x in inputs:
            assert x.shape[1:] == (*self.layer.size, self.layer.channels)
        x = sum(inputs)[:, :: self.layer.stride, :: self.layer.stride] / len(inputs)
        return jnp.concatenate([x] * 4, axis=-1)


class Ramp(nn.Module):
    """A cell that ignores its inputs."""

    layer: LayerSpec

    @nn.compact
    def __call__(self, inputs):
        height, width = (side // self.layer.stride for side in self.layer.size)
        shape = len(inputs[0]), height, width, 4 * self.layer.channels
        return jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape) / np.prod(shape)


def plain_cell(layer):
    return PlainCell(layer, parent=None)


def stack(
    channels=4,
    num_cells=3,
    stem="cifar",
    norms=None,
    auxiliary=False,
    num_classes=5,
    make_cell=plain_cell,
    **more,
):
    norms = norms or search_norms()
    return CellStack(
        channels, num_cells, num_classes, stem, norms, make_cell, auxiliary=auxiliary, **more
    )


@pytest.mark.parametrize("num_cells", range(1, 22))
def test_reductions_are_at_one_third_and_two_thirds(num_cells):
    layers = stack_layers(channels=4, num_cells=num_cells, image_size=32)
    assert len(layers) == num_cells
    reductions = [number for number, layer in enumerate(layers) if layer.kind == "reduce"]
    assert reductions == sorted({num_cells // 3, 2 * num_cells // 3})
    assert [layer.stride for layer in layers] == [
        2 if layer.kind == "reduce" else 1 for layer in layers
    ]


def test_published_stacks_reduce_where_the_papers_do():
    def reductions(num_cells):
        layers = stack_layers(channels=4, num_cells=num_cells, image_size=32)
        return [number for number, layer in enumerate(layers) if layer.stride == 2]

    assert [reductions(number) for number in (8, 14, 20)] == [[2, 5], [4, 9], [6, 13]]


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_channels_double_and_sizes_halve_at_each_reduction(stem):
    channels, (height, width) = 6, (64, 96)
    if stem == "imagenet":
        height, width = height // 8, width // 8
    for layer in stack_layers(channels=6, num_cells=8, image_size=(64, 96), stem=stem):
        if layer.kind == "reduce":
            channels *= 2
        assert (layer.channels, layer.size) == (channels, (height, width))
        height, width = height // layer.stride, width // layer.stride


def test_one_number_is_a_square():
    sizes = dict(channels=4, num_cells=6)
    assert stack_layers(image_size=16, **sizes) == stack_layers(image_size=(16, 16), **sizes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(stem="mnist"), "stem 'mnist' does not exist; choose from: cifar, imagenet"),
        (dict(num_cells=0), "at least one cell and one channel, got 0 cells and 4 channels"),
        (dict(channels=0), "at least one cell and one channel, got 6 cells and 0 channels"),
        (
            dict(channels=5, stem="imagenet", image_size=64),
            "half of 5 channels; choose an even number",
        ),
        (
            dict(image_size=30),
            "30x30 cannot be halved 2 times.*resize or pad them to multiples of 4 pixels",
        ),
        (dict(image_size=(32, 33)), "32x33 cannot be halved 2 times.*multiples of 4"),
        (
            dict(image_size=48, stem="imagenet"),
            "48x48 cannot be halved 5 times.*imagenet.*multiples of 32",
        ),
        (dict(image_size=0), "0x0 cannot be halved"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        stack_layers(**{**dict(channels=4, num_cells=6, image_size=32), **given})


@pytest.mark.parametrize("size", [(7, 8), (8, 6)])
def test_the_stack_refuses_odd_sizes_too(size):
    with pytest.raises(ValueError, match=r"cannot be halved 2 times.*resize or pad"):
        shapes(stack(), images(*size))


def test_the_stack_refuses_odd_channels_with_the_imagenet_stem():
    with pytest.raises(ValueError, match="half of 3 channels; choose an even number"):
        shapes(stack(channels=3, stem="imagenet"), images(64, 64))


@pytest.mark.parametrize("num_cells", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("stem", "size"), [("cifar", (8, 12)), ("imagenet", (64, 32))])
def test_each_cell_gets_two_inputs_of_its_size_and_channels(stem, size, num_cells):
    # Plain_cell asserts.
    (logits, auxiliary), _ = shapes(stack(num_cells=num_cells, stem=stem), images(*size))
    assert logits.shape == (2, 5)
    assert auxiliary is None


def test_cifar_stem_is_one_convolution_to_three_times_the_channels():
    _, variables = shapes(stack(), images(8, 8))
    convolutions = {
        name: child["kernel"].shape
        for name, child in variables["params"].items()
        if "Conv_" in name and "ReLU" not in name
    }
    assert convolutions == {"Conv_0": (3, 3, 3, 12)}


def test_imagenet_stem_is_three_strided_convolutions():
    _, variables = shapes(stack(stem="imagenet"), images(32, 32))
    kernels = [variables["params"][f"Conv_{number}"]["kernel"].shape for number in range(3)]
    assert kernels == [(3, 3, 3, 2), (3, 3, 2, 4), (3, 3, 4, 4)]


def test_stems_are_affine_in_search_and_cells_are_not():
    for stem, norms in [("cifar", 1), ("imagenet", 3)]:
        _, variables = shapes(stack(stem=stem), images(32, 32))
        scales = [
            path
            for path, _ in jax.tree.leaves_with_path(variables["params"])
            if path[-1].key == "scale"
        ]
        assert len(scales) == norms
        assert all(path[0].key.startswith("BatchNorm") for path in scales)


def test_imagenet_input_is_halved_three_times_before_the_second_input_of_the_first_cell():
    # PlainCell asserts the size of both inputs.
    _, variables = shapes(stack(stem="imagenet"), images(64, 64))
    layer = variables["params"]["cell_0"]
    assert stack_layers(channels=4, num_cells=3, image_size=64, stem="imagenet")[0].size == (8, 8)
    assert layer["preprocess_0"]["Dense_0"]["kernel"].shape == (4, 2)  # FactorizedReduce
    assert layer["preprocess_1"]["Dense_0"]["kernel"].shape == (4, 4)


def test_a_cell_after_a_reduction_halves_its_older_input():
    _, variables = shapes(stack(num_cells=6), images(8, 8))  # reductions at 2 and 4
    halved = {
        number
        for number in range(6)
        if "Dense_1" in variables["params"][f"cell_{number}"]["preprocess_0"]
    }
    assert halved == {3, 5}
    assert not any(
        "Dense_1" in variables["params"][f"cell_{number}"]["preprocess_1"] for number in range(6)
    )


def test_classifier_reads_the_mean_over_positions():
    module = stack(num_cells=1, make_cell=lambda layer: Ramp(layer, parent=None))
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    variables = init_variables(module, jax.random.key(1), x)
    logits, _ = module.apply(variables, x)
    last = np.arange(2 * 2 * 2 * 32).reshape(2, 2, 2, 32) / (2 * 2 * 2 * 32)
    dense = variables["params"]["classifier"]["dense"]
    np.testing.assert_allclose(
        logits, last.mean((1, 2)) @ dense["kernel"] + dense["bias"], atol=1e-5
    )


@functools.cache
def long_stack(**more):
    """Seven cells, of which the last three of the first stage are alike; with running averages."""
    sizes = dict(channels=2, num_cells=14, norms=final_norms(True))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    module = stack(**sizes, **more)
    return module, jax.jit(lambda key: init_variables(module, key, x))(jax.random.key(1)), x


@functools.cache
def value_and_gradient_of(**more):
    """Those of the long stack with these options, all at the weights of the plain one."""
    module, _, _ = long_stack(**more)
    _, variables, x = long_stack()
    return jax.jit(lambda variables: value_and_gradient(module, variables, x))(variables)


def value_and_gradient(module, variables, x):
    def value(params):
        (logits, _), averages = module.apply(
            {**variables, "params": params}, x, mutable=["batch_stats"]
        )
        return (logits**2).sum(), averages

    return jax.value_and_grad(value, has_aux=True)(variables["params"])


def test_neighbours_in_one_loop_equal_one_by_one_with_averages_and_gradients():
    module, variables, x = long_stack()
    loop, _, _ = long_stack(scan=True)
    chex.assert_trees_all_close(
        value_and_gradient_of(scan=True), value_and_gradient_of(), rtol=1e-4, atol=1e-5
    )
    texts = [
        str(jax.make_jaxpr(lambda v, m=m: m.apply(v, x, mutable=["batch_stats"])[0])(variables))
        for m in (loop, module)
    ]
    assert ["scan[" in text for text in texts] == [True, False]


def test_remat_changes_no_gradient():
    _, variables, x = long_stack()
    for more in ({"remat": True}, {"remat": True, "scan": True}):
        again, _, _ = long_stack(**more)
        chex.assert_trees_all_close(
            value_and_gradient_of(**more), value_and_gradient_of(), rtol=1e-4, atol=1e-5
        )
        assert "remat" in str(
            jax.make_jaxpr(lambda v, m=again: value_and_gradient(m, v, x)[0][0])(variables)
        )


@pytest.mark.parametrize(("num_cells", "width"), [(3, 16 * 4), (6, 16 * 4)])
def test_auxiliary_head_sits_after_the_second_reduction(num_cells, width):
    (logits, auxiliary), variables = shapes(
        stack(num_cells=num_cells, auxiliary=True), images(32, 32)
    )
    assert logits.shape == auxiliary.shape == (2, 5)
    assert variables["params"]["auxiliary"]["Conv_0"]["kernel"].shape == (1, 1, width, 128)


@pytest.mark.parametrize(("stem", "size"), [("cifar", 8), ("imagenet", 7)])
def test_auxiliary_head_has_one_position_at_its_original_size(stem, size):
    head = AuxiliaryHead(10, stem, final_norms(True))
    logits, variables = shapes(head, images(size, size, channels=6))
    params = variables["params"]
    assert logits.shape == (2, 10)
    assert params["Conv_0"]["kernel"].shape == (1, 1, 6, 128)
    assert params["Conv_1"]["kernel"].shape == (2, 2, 128, 768)
    assert params["classifier"]["dense"]["kernel"].shape == (768, 10)
    # The published imagenet head lacks the norm after the second convolution.
    assert sum("BatchNorm" in name for name in params) == (2 if stem == "cifar" else 1)


@pytest.mark.parametrize(("stem", "smallest"), [("cifar", 8), ("imagenet", 7)])
def test_auxiliary_head_says_how_large_its_input_must_be(stem, smallest):
    head = AuxiliaryHead(10, stem, final_norms(True))
    with pytest.raises(
        ValueError,
        match=f"at least {smallest}x{smallest}.*got 9x{smallest - 1}; use larger images, or no",
    ):
        shapes(head, images(9, smallest - 1))
    shapes(head, images(smallest, smallest))


def test_auxiliary_head_equals_numpy():
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 4))
    head = AuxiliaryHead(5, "cifar", search_norms())
    variables = init_variables(head, jax.random.key(1), x)
    params = jax.tree.map(lambda array: np.asarray(array, np.float64), variables["params"])

    def norm(y):
        return (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)

    y = np.maximum(np.asarray(x, np.float64), 0)
    y = np.stack(
        [np.stack([y[:, i : i + 5, j : j + 5].mean((1, 2)) for j in (0, 3)], 1) for i in (0, 3)], 1
    )
    y = np.maximum(norm(y @ params["Conv_0"]["kernel"][0, 0]), 0)
    y = np.maximum(
        norm(np.einsum("bijc,ijcd->bd", y, params["Conv_1"]["kernel"])[:, None, None]), 0
    )[:, 0, 0]
    expected = y @ params["classifier"]["dense"]["kernel"] + params["classifier"]["dense"]["bias"]
    np.testing.assert_allclose(head.apply(variables, x), expected, atol=1e-4)


def test_classifier_is_linear_with_a_bias():
    x = jax.random.normal(jax.random.key(0), (2, 6))
    variables = init_variables(Classifier(3), jax.random.key(1), x)
    dense = variables["params"]["dense"]
    np.testing.assert_allclose(
        Classifier(3).apply(variables, x), x @ dense["kernel"] + dense["bias"], atol=1e-6
    )
