"""The blocks of layer-wise spaces are what the papers say, run together or alone, and keep the
contract of ops."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dnas.cells import BLOCKS, final_norms, search_norms
from dnas.cells.init import init_variables
from dnas.cells.mbconv import MBConv, blocks_of, grouped_product, run_together
from dnas.contracts import check_op

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (2, 6, 5, 8))


def made(block, key, images):
    return jax.jit(lambda key, images: init_variables(block, key, images))(key, images)


def convolution(x, kernel, *, stride=1, groups=1):
    side = kernel.shape[0] // 2
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(side, side)] * 2,
        dimension_numbers=numbers,
        feature_group_count=groups,
    )


def normalized(x):
    mean = x.mean((0, 1, 2))
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean((0, 1, 2)) + 1e-5)


def block_by_formula(weights, x, *, kernel, expansion, groups=1, stride=1, activation=nn.relu):
    """The block out of XLA's own convolutions; channel (g, c) of the expansion goes to place (c,
    g)."""
    y = normalized(convolution(x, weights["expand"]["kernel"][None, None], groups=groups))
    order = np.arange(y.shape[-1]).reshape(groups, -1).T.ravel()
    y = activation(y[..., order])
    y = activation(
        normalized(
            convolution(y, weights["depthwise"]["kernel"], stride=stride, groups=y.shape[-1])
        )
    )
    y = normalized(convolution(y, weights["project"]["kernel"][None, None], groups=groups))
    return x + y if y.shape == x.shape and stride == 1 else y


@pytest.mark.parametrize(
    ("name", "channels", "stride"),
    [("k3_e1_g2", 8, 1), ("k3_e1_g2", 16, 2), ("k5_e3", 16, 1), ("k7_e6", 8, 1), ("k7_e3", 8, 2)],
)
def test_block_equals_xlas_convolutions(name, channels, stride):
    block = BLOCKS[name](channels=channels, stride=stride, norms=search_norms())
    weights = made(block, KEY, IMAGES)["params"]
    sizes = dict(kernel=block.kernel, expansion=block.expansion, groups=block.groups, stride=stride)

    @jax.jit
    def both(weights):
        return block.apply({"params": weights}, IMAGES), block_by_formula(weights, IMAGES, **sizes)

    one, other = both(weights)
    assert jnp.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(("activation", "stride"), [("relu", 1), ("relu6", 2)])
def test_blocks_run_together_make_what_each_makes_alone(activation, stride):
    records = blocks_of(("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6"), activation=activation)
    fields = dict(channels=16, stride=stride, norms=search_norms())
    blocks = [record(**fields) for record in records.values()]
    images = 3 * IMAGES
    weights = [made(block, jax.random.key(n), images)["params"] for n, block in enumerate(blocks)]

    @jax.jit
    def both(weights, images):
        alone = [
            block.apply({"params": own}, images) for block, own in zip(blocks, weights, strict=True)
        ]
        return run_together(normalized, blocks, weights, images), alone

    for one, other in zip(*both(weights, images), strict=True):
        assert jnp.allclose(one, other, atol=1e-4)


def test_grouped_product_equals_a_grouped_convolution():
    kernel = jax.random.normal(KEY, (4, 6))
    expected = convolution(IMAGES, kernel[None, None], groups=2)
    assert jnp.allclose(grouped_product(IMAGES, kernel, 2), expected, atol=1e-5)


def test_channels_that_cannot_be_grouped_are_refused():
    with pytest.raises(ValueError, match="8 to 5 channels cannot be split in 2 groups"):
        grouped_product(IMAGES, jnp.zeros((4, 5)), 2)


def test_a_block_without_expansion_has_no_first_convolution():
    block = MBConv(8, 1, search_norms(), kernel=3, expansion=1, expand_ones=False)
    assert set(made(block, KEY, IMAGES)["params"]) == {"depthwise", "project"}


def test_skip_is_the_identity_where_it_can_be_and_a_convolution_elsewhere():
    build = partial(BLOCKS["skip_connect"], norms=search_norms())
    assert (build(channels=8, stride=1).apply({}, IMAGES) == IMAGES).all()
    for channels, stride in ((16, 1), (8, 2)):
        block = build(channels=channels, stride=stride)
        variables = made(block, KEY, IMAGES)
        kernel = variables["params"]["Dense_0"]["kernel"][None, None]
        expected = nn.relu(normalized(convolution(IMAGES, kernel, stride=stride)))
        assert jnp.allclose(block.apply(variables, IMAGES), expected, atol=1e-4)


def test_drop_path_drops_all_but_the_input():
    block = BLOCKS["k3_e1"](channels=8, stride=1, norms=final_norms(True))
    variables = made(block, KEY, IMAGES)
    apply = partial(
        block.apply, variables, IMAGES, mutable=["batch_stats"], rngs={"drop_path": KEY}
    )
    assert jnp.allclose(apply(1 - 1e-6)[0], IMAGES)
    assert jnp.allclose(apply(0.0)[0], apply(None)[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_block_keeps_the_contract_of_ops(name):
    check_op(BLOCKS[name])
