"""DARTS-Bench-Suite: nine settings, and a skip connection beside every edge that nobody chose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas.cells import search_norms
from dnas.spaces import BENCH_SUITE, darts_space
from dnas.spaces.auxiliary_skip import AUXILIARY

# One normal and one reduction cell, and a cell of several nodes of which some are no output.
SKIPS = darts_space(
    name="skips",
    ops=("none", "skip_connect", "sep_conv_3x3"),
    num_nodes=3,
    num_concat=2,
    auxiliary_skip=True,
)
SIZES = dict(channels=4, num_cells=2, num_classes=5)
KEY = jax.random.key(2)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


def compiled(function):
    """jit, compiled in a hurry."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def test_the_nine_have_the_sizes_and_candidates_of_the_paper():
    darts = dnas.SPACES["darts"].cells["normal"].ops
    for name, (shape, ops) in BENCH_SUITE.items():
        space = dnas.SPACES[name]
        sizes = {"wide": (18, 4), "deep": (7, 18), "single": (26, 1)}[shape]
        final = space.final_channels, space.final_cells
        assert (space.channels, space.num_cells) == final == sizes
        spec = space.cells["reduce"]
        assert set(darts) - set(spec.ops) == ({"skip_connect"} if ops == "no_skip" else set())
        nodes, outputs = (8, (6, 7, 8, 9)) if shape == "single" else (4, (2, 3, 4, 5))
        assert spec.num_nodes == nodes and spec.concat == outputs
        layers = space.layers(channels=2, num_cells=sizes[1], image_size=32)
        reductions = {"wide": [1, 2], "deep": [6, 12], "single": [0]}[shape]
        assert [n for n, layer in enumerate(layers) if layer.kind == "reduce"] == reductions
    assert len(BENCH_SUITE) == 9


@pytest.fixture(scope="module")
def supernet():
    """(weights, logits of weights and mix) of the small space, compiled once."""
    made = SKIPS.supernet(**SIZES)
    return compiled(weights_of(made))(KEY, IMAGES), compiled(logits_of(made))


def genotype_with(space, *ops):
    """The first two edges into each node, with these ops in turn."""
    edges = [
        (source, target, ops[(source + target) % len(ops)])
        for target in (2, 3, 4)
        for source in (0, 1)
    ]
    outputs = {kind: spec.concat for kind, spec in space.cells.items()}
    return dnas.Genotype(space.name, {kind: edges for kind in space.cells}, outputs)


def test_supernet_at_a_one_hot_mix_equals_the_network_of_the_genotype(supernet):
    space, (weights, apply) = SKIPS, supernet
    genotype = genotype_with(space, "sep_conv_3x3", "skip_connect")
    network = space.network(genotype, **SIZES, norms=search_norms)
    variables = jax.eval_shape(network.init, KEY, IMAGES)
    # Every array must be inherited.
    variables = jax.tree.map(lambda array: jnp.full(array.shape, jnp.nan), variables)
    variables = dnas.inherit_weights(space, genotype, weights, variables)
    logits = compiled(
        lambda variables: network.apply(variables, {}, IMAGES, key=KEY, train=True)[0].logits
    )(variables)
    expected = apply(weights, dnas.one_hot_mix(space, genotype), IMAGES)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_an_edge_of_the_supernet_computes_its_candidates_and_the_skip(supernet):
    """skip(x) + sum_o mix[o] o(x): with the same weights it is the supernet without auxiliary skips
    at a mix whose skip weighs one more."""
    weights, apply = supernet
    plain = darts_space(
        name="plain", ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=3, num_concat=2
    )
    mix = {
        kind: jax.nn.softmax(jax.random.normal(KEY, spec.choices.shape))
        for kind, spec in plain.cells.items()
    }
    raised = {kind: rows + jnp.array([0.0, 1.0, 0.0]) for kind, rows in mix.items()}
    expected = compiled(logits_of(plain.supernet(**SIZES)))(weights, raised, IMAGES)
    np.testing.assert_allclose(apply(weights, mix, IMAGES), expected, atol=1e-5)
    # A mix of its own for each image of the batch, and the sampled form, which runs all ops here.
    per_image = {kind: jnp.repeat(rows[..., None], 4, axis=-1) for kind, rows in mix.items()}
    np.testing.assert_allclose(apply(weights, per_image, IMAGES), expected, atol=1e-4)
    sampled = logits_of(SKIPS.supernet(**SIZES, sampled=True))
    np.testing.assert_allclose(compiled(sampled)(weights, mix, IMAGES), expected, atol=1e-5)


def test_auxiliary_skips_are_counted_where_they_have_weights():
    """Only edges that halve the image have some: two 1x1 convolutions."""
    space = SKIPS
    genotype = genotype_with(space, "sep_conv_3x3")
    with_skips = dnas.count_network(space, genotype, **SIZES, image_size=8)
    plain = darts_space(name="skips", ops=space.cells["normal"].ops, num_nodes=3, num_concat=2)
    without = dnas.count_network(plain, genotype, **SIZES, image_size=8)
    # Cell 0 keeps 8x8 halved to 4x4 at 8 channels, cell 1 4x4 halved to 2x2 at 16: of each six
    # edges leave the inputs.
    strides = [(8, 16), (16, 4)]
    assert with_skips.macs - without.macs == sum(
        6 * channels * channels * pixels for channels, pixels in strides
    )
    network = space.network(genotype, **SIZES)
    weights = jax.eval_shape(network.init, KEY, IMAGES)["params"]["cell_1"]["cell"]
    assert jax.tree.leaves(weights["edge_0_2"][AUXILIARY])
    assert AUXILIARY not in weights.get("edge_2_4", {})


def test_what_has_no_skip_connection_or_nodes_enough_is_refused():
    with pytest.raises(ValueError, match="need the op 'skip_connect' among the candidates"):
        darts_space(ops=("none", "sep_conv_3x3"), auxiliary_skip=True)
    with pytest.raises(ValueError, match="at least one of the 4 intermediate nodes, got num_con"):
        darts_space(num_concat=5)
    with pytest.raises(ValueError, match="no space 'tall'; choose from: wide_regular"):
        dnas.bench_suite_space("tall")
