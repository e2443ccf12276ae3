"""Every op against loops in numpy, written from the papers and not from the code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.cells import OPS, final_norms, search_norms
from dnas.cells.heads import Classifier
from dnas.cells.init import bias_init, conv_init, init_variables
from dnas.cells.norms import BatchNorm
from dnas.cells.ops import FactorizedReduce, ReLUConvBN

CHANNELS = 4
SIZES = [(8, 8), (6, 10)]


def relu(x):
    return np.maximum(x, 0)


def norm(x):
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    return (x - mean) / np.sqrt(var + 1e-5)


def windows(x, side, stride, padding, dilation=1, fill=0.0):
    """[B, h, w, side, side, C]: what each output position looks at."""
    batch, height, width, channels = x.shape
    padded = np.full((batch, height + 2 * padding, width + 2 * padding, channels), fill)
    padded[:, padding : padding + height, padding : padding + width] = x
    reach = dilation * (side - 1) + 1
    rows = range(0, padded.shape[1] - reach + 1, stride)
    columns = range(0, padded.shape[2] - reach + 1, stride)
    found = [
        [padded[:, i : i + reach : dilation, j : j + reach : dilation] for j in columns]
        for i in rows
    ]
    return np.stack([np.stack(row, 1) for row in found], 1)


def depthwise(x, kernel, stride, padding, dilation=1):
    return np.einsum(
        "bhwijc,ijc->bhwc", windows(x, kernel.shape[0], stride, padding, dilation), kernel[:, :, 0]
    )


def none(x, params, stride):
    return 0 * x[:, ::stride, ::stride]


def max_pool(x, params, stride):
    return norm(windows(x, 3, stride, 1, fill=-np.inf).max((3, 4)))


def avg_pool(x, params, stride):
    inside = windows(np.ones_like(x), 3, stride, 1).sum((3, 4))
    return norm(windows(x, 3, stride, 1).sum((3, 4)) / inside)


def skip(x, params, stride):
    if stride == 1:
        return x
    x = relu(x)
    first, second = params["Dense_0"]["kernel"], params["Dense_1"]["kernel"]
    return norm(np.concatenate([x[:, ::2, ::2] @ first, x[:, 1:, 1:][:, ::2, ::2] @ second], -1))


def sep_conv(x, params, stride):
    side = params["DepthwiseConv_0"]["kernel"].shape[0]
    x = depthwise(relu(x), params["DepthwiseConv_0"]["kernel"], stride, side // 2)
    x = norm(x @ params["Dense_0"]["kernel"])
    x = depthwise(relu(x), params["DepthwiseConv_1"]["kernel"], 1, side // 2)
    return norm(x @ params["Dense_1"]["kernel"])


def dil_conv(x, params, stride):
    padding = {3: 2, 5: 4}[params["DepthwiseConv_0"]["kernel"].shape[0]]
    x = depthwise(relu(x), params["DepthwiseConv_0"]["kernel"], stride, padding, dilation=2)
    return norm(x @ params["Dense_0"]["kernel"])


def sharp_sep_conv(dilation):
    def apply(x, params, stride):
        x = depthwise(
            relu(x), params["DepthwiseConv_0"]["kernel"], stride, dilation, dilation=dilation
        )
        x = norm(x @ params["Dense_0"]["kernel"])
        x = depthwise(relu(x), params["DepthwiseConv_1"]["kernel"], 1, 1)
        return norm(x @ params["Dense_1"]["kernel"])

    return apply


def nor_conv(x, params, stride):
    if "Conv_0" in params:
        kernel = params["Conv_0"]["kernel"]
        y = np.einsum("bhwijc,ijcd->bhwd", windows(relu(x), 3, stride, 1), kernel)
    else:
        y = relu(x)[:, ::stride, ::stride] @ params["Dense_0"]["kernel"]
    return norm(y + params["bias"])


def noise(x, params, stride):
    """By the definition: a seed an image, the sum of what each positive number is worth."""
    worth = 2 * np.arange(x[0].size, dtype=np.uint64) * 2654435761 + 1
    shape, images = x[0, ::stride, ::stride].shape, []
    for image in x:
        seed = np.uint32(worth[image.ravel() > 0].sum() % 2**32)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), seed)
        images.append(jax.random.normal(key, shape))
    return np.stack(images)


EXPECTED = {
    "none": none,
    "max_pool_3x3": max_pool,
    "avg_pool_3x3": avg_pool,
    "skip_connect": skip,
    "sep_conv_3x3": sep_conv,
    "sep_conv_5x5": sep_conv,
    "dil_conv_3x3": dil_conv,
    "dil_conv_5x5": dil_conv,
    "noise": noise,
    "nor_conv_1x1": nor_conv,
    "nor_conv_3x3": nor_conv,
    "dil_sep_conv_3x3": sharp_sep_conv(2),
    "flood_conv_3x3": sharp_sep_conv(1),
    "dil_flood_conv_3x3": sharp_sep_conv(2),
    "choke_conv_3x3": sharp_sep_conv(1),
    "dil_choke_conv_3x3": sharp_sep_conv(2),
}
# Channels in the middle of sharpDARTS's blocks.
MIDDLE = {
    name: 32 if "choke" in name else 4 * CHANNELS
    for name in OPS
    if "flood" in name or "choke" in name
} | {"dil_sep_conv_3x3": CHANNELS}


def build(name, stride, size=(8, 8), norms=None):
    op = OPS[name](channels=CHANNELS, stride=stride, norms=norms or search_norms())
    images = jax.random.normal(jax.random.key(1), (3, *size, CHANNELS))
    return op, init_variables(op, jax.random.key(0), images), images


def in_float64(tree):
    return jax.tree.map(lambda array: np.asarray(array, np.float64), tree)


def test_every_op_has_an_independent_computation_here():
    assert set(EXPECTED) == set(OPS)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_op_equals_numpy(name, stride, size):
    op, variables, images = build(name, stride, size)
    expected = EXPECTED[name](in_float64(images), in_float64(variables.get("params", {})), stride)
    y = op.apply(variables, images)
    assert y.shape == (3, size[0] // stride, size[1] // stride, CHANNELS)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [name for name in OPS if name not in ("none", "noise")])
def test_records_say_which_ops_begin_with_a_relu_and_which_have_weights(name, stride):
    """`none` ignores its input, and noise depends on its signs alone."""
    op, variables, images = build(name, stride)
    same = jnp.allclose(op.apply(variables, images), op.apply(variables, jax.nn.relu(images)))
    assert OPS[name].begins_with_relu(stride) == bool(same)
    without = not jax.tree.leaves(variables) and not OPS[name].is_identity(stride)
    assert OPS[name].without_weights == without


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_pooling_has_no_norm_in_the_final_network(name, stride):
    op, variables, images = build(name, stride, norms=final_norms(True))
    x = in_float64(images)
    expected = windows(x, 3, stride, 1, fill=-np.inf).max((3, 4))
    if name == "avg_pool_3x3":
        expected = windows(x, 3, stride, 1).sum((3, 4)) / windows(
            np.ones_like(x), 3, stride, 1
        ).sum((3, 4))
    assert not jax.tree.leaves(variables)
    np.testing.assert_allclose(op.apply(variables, images), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_odd_sizes_round_up_or_are_refused_by_factorized_reduce(name, stride):
    images = jnp.ones((2, 7, 5, CHANNELS))
    op = OPS[name](channels=CHANNELS, stride=stride, norms=search_norms())
    if name == "skip_connect" and stride == 2:
        with pytest.raises(ValueError, match=r"7x5.*cannot be halved.*resize or pad"):
            init_variables(op, jax.random.key(0), images)
        return
    variables = jax.eval_shape(lambda: init_variables(op, jax.random.key(0), images))
    assert jax.eval_shape(op.apply, variables, images).shape == (
        2,
        -(-7 // stride),
        -(-5 // stride),
        CHANNELS,
    )


def test_factorized_reduce_refuses_odd_channels():
    op = FactorizedReduce(3, search_norms())
    with pytest.raises(ValueError, match=r"3 channels cannot be split.*choose an even number"):
        init_variables(op, jax.random.key(0), jnp.ones((2, 8, 8, CHANNELS)))


def test_factorized_reduce_reads_every_other_pixel_twice_one_pixel_apart():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    op = FactorizedReduce(2, search_norms()._replace(conv=lambda: lambda x: x))
    y = op.apply(
        {
            "params": {
                "Dense_0": {"kernel": jnp.ones((1, 1))},
                "Dense_1": {"kernel": jnp.ones((1, 1))},
            }
        },
        image,
    )
    assert y[0, :, :, 0].tolist() == [[0, 2], [8, 10]]
    assert y[0, :, :, 1].tolist() == [[5, 7], [13, 15]]


def test_factorized_reduce_changes_the_channel_count():
    op = FactorizedReduce(6, search_norms())
    images = jnp.ones((2, 8, 6, CHANNELS))
    y, variables = op.init_with_output(jax.random.key(0), images)
    assert y.shape == (2, 4, 3, 6)
    assert [array.shape for array in jax.tree.leaves(variables)] == [(CHANNELS, 3)] * 2


def test_relu_conv_norm_equals_numpy():
    op = ReLUConvBN(5, search_norms())
    images = jax.random.normal(jax.random.key(1), (3, 4, 6, CHANNELS))
    variables = init_variables(op, jax.random.key(0), images)
    expected = norm(relu(in_float64(images)) @ in_float64(variables["params"]["Dense_0"]["kernel"]))
    np.testing.assert_allclose(op.apply(variables, images), expected, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_op_has_these_parameters(name, stride):
    _, variables, _ = build(name, stride)
    side = 5 if "5x5" in name else 3
    pointwise, depthwise = (CHANNELS, CHANNELS), (side, side, 1, CHANNELS)
    expected = {"sep": [pointwise, depthwise] * 2, "dil": [pointwise, depthwise]}.get(name[:3], [])
    if name == "skip_connect" and stride == 2:
        expected = [(CHANNELS, CHANNELS // 2)] * 2
    if name.startswith("nor_conv"):
        expected = [
            (CHANNELS,),
            pointwise if name == "nor_conv_1x1" else (3, 3, CHANNELS, CHANNELS),
        ]
    if name in MIDDLE:
        wide = MIDDLE[name]
        expected = [depthwise, (CHANNELS, wide), (3, 3, 1, wide), (wide, CHANNELS)]
    assert sorted(array.shape for array in jax.tree.leaves(variables)) == sorted(expected)


@pytest.mark.parametrize("name", OPS)
def test_final_norms_add_a_scale_and_a_shift_a_norm_and_no_bias(name):
    _, variables, _ = build(name, 2, norms=final_norms(True))
    norms = 2 if name in MIDDLE else {"sep": 2, "dil": 1, "ski": 1, "nor": 1}.get(name[:3], 0)
    vectors = [array for array in jax.tree.leaves(variables.get("params", {})) if array.ndim == 1]
    assert len(vectors) == 2 * norms
    assert len(jax.tree.leaves(variables.get("batch_stats", {}))) == 2 * norms


@pytest.mark.parametrize("kernel", ["1x1", "3x3"])
def test_a_bias_shifts_what_a_norm_without_scale_and_running_averages_sees(kernel):
    """With the statistics of the batch it has no effect; with kept ones it has, until they have
    followed."""
    norms = search_norms()._replace(conv=lambda: BatchNorm(affine=False, train=False))
    op, variables, images = build(f"nor_conv_{kernel}", 1, norms=norms)
    bias = variables["params"]["bias"]
    without = {**variables, "params": {**variables["params"], "bias": jnp.zeros_like(bias)}}
    np.testing.assert_allclose(
        op.apply(variables, images) - op.apply(without, images),
        jnp.broadcast_to(bias, images.shape),
        atol=1e-5,
    )


def test_noise_is_standard_normal_differs_between_images_and_edges_and_repeats_for_the_same():
    op = OPS["noise"](channels=16, stride=1, norms=search_norms())
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 16))
    first, again = op.apply({}, images), op.apply({}, images)
    other_edge = op.apply({"params": {"edge": jnp.float32(1002)}}, images)
    np.testing.assert_array_equal(first, again)
    numbers = np.concatenate([first.ravel(), other_edge.ravel()])
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02
    correlations = np.corrcoef(np.concatenate([first, other_edge]).reshape(16, -1))
    assert abs(correlations - np.eye(16)).max() < 0.1


def test_noise_of_an_image_does_not_depend_on_the_others_of_its_batch():
    op = OPS["noise"](channels=4, stride=2, norms=search_norms())
    images = jax.random.normal(jax.random.key(0), (3, 8, 8, 4))
    np.testing.assert_array_equal(op.apply({}, images)[1:], op.apply({}, images[1:]))


@pytest.mark.parametrize(
    ("shape", "fan_in"),
    [((3, 3, 1, 2000), 9), ((5, 5, 1, 2000), 25), ((3, 3, 8, 300), 72), ((16, 500), 16)],
)
def test_kernels_are_uniform_within_one_over_root_fan_in(shape, fan_in):
    class OneKernel(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.param("kernel", conv_init, shape)

    kernel = init_variables(OneKernel(), jax.random.key(0), jnp.ones((1,)))["params"]["kernel"]
    bound = fan_in**-0.5
    assert kernel.shape == shape
    assert abs(kernel).max() <= bound
    assert abs(kernel).max() > 0.99 * bound
    np.testing.assert_allclose(kernel.mean(), 0.0, atol=0.02 * bound)
    np.testing.assert_allclose(kernel.var(), bound**2 / 3, rtol=0.03)


def test_kernel_bound_is_one_over_root_fan_in():
    assert conv_init(None, (3, 3, 4, 7)).bound == pytest.approx(36**-0.5)
    assert bias_init(16)(None, (10,)).bound == pytest.approx(0.25)


def test_kernels_and_biases_of_a_module_are_different_numbers():
    variables = init_variables(Classifier(6), jax.random.key(0), jnp.ones((2, 9)))["params"][
        "dense"
    ]
    numbers = np.concatenate([variables["kernel"].ravel(), variables["bias"]])
    assert len(np.unique(numbers)) == 9 * 6 + 6
    assert abs(numbers).max() <= 1 / 3


def test_weights_depend_on_the_key_alone():
    op, _, images = build("sep_conv_3x3", 1)
    first, same, other = (
        init_variables(op, jax.random.key(seed), images * seed) for seed in (3, 3, 4)
    )
    jax.tree.map(np.testing.assert_array_equal, first, same)
    assert not np.array_equal(jax.tree.leaves(first)[0], jax.tree.leaves(other)[0])


def test_init_variables_works_under_jit_and_vmap():
    op, _, images = build("dil_conv_3x3", 2)
    keys = jax.random.split(jax.random.key(5), 2)
    both = jax.jit(jax.vmap(lambda key: init_variables(op, key, images)))(keys)
    for number, key in enumerate(keys):
        one = init_variables(op, key, images)
        jax.tree.map(
            lambda many, own, n=number: np.testing.assert_allclose(many[n], own, atol=1e-7),
            both,
            one,
        )
