"""The DARTS space: the supernet at a one-hot mix is the network of the genotype."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal
from supernets import logits_of, weights_of

import dnas
from dnas.cells import search_norms
from dnas.selection import random_genotype
from dnas.spaces import darts_space

SPACE = dnas.SPACES["darts"]
SIZES = dict(channels=4, num_cells=3, num_classes=5)
KEY = jax.random.key(2)
RANDOM = {f"random_{seed}": random_genotype(jax.random.key(seed), SPACE) for seed in range(3)}
# Nodes with one edge and with two, and an edge that is chosen to be none.
UNEQUAL = dnas.Genotype(
    "darts",
    {
        "normal": [
            (0, 2, "sep_conv_3x3"),
            (2, 3, "skip_connect"),
            (0, 4, "none"),
            (1, 4, "max_pool_3x3"),
            (2, 5, "dil_conv_5x5"),
        ],
        "reduce": [
            (1, 2, "skip_connect"),
            (0, 3, "skip_connect"),
            (2, 4, "avg_pool_3x3"),
            (3, 5, "sep_conv_5x5"),
        ],
    },
)

PUBLISHED = {
    name: genotype for name, genotype in dnas.PUBLISHED.items() if genotype.space == "darts"
}
GENOTYPES = {**PUBLISHED, **RANDOM, "unequal": UNEQUAL}


def images(seed=0, size=(8, 8)):
    return normal(seed, 4, *size, 3)


def count(tree):
    return sum(array.size for array in jax.tree.leaves(tree))


class Supernet:
    """One supernet for the module: its weights, and one compiled function of mix and images."""

    def __init__(self):
        supernet = SPACE.supernet(**SIZES)
        self.weights = jax.jit(weights_of(supernet))(jax.random.key(0), images())
        self.apply = jax.jit(logits_of(supernet))


@pytest.fixture(scope="module")
def supernet():
    return Supernet()


@functools.cache
def small_network():
    """A retrained network with an auxiliary head, its variables, and its training step compiled
    once."""
    network = SPACE.network(dnas.PUBLISHED["PDARTS"], **SIZES, auxiliary=True)
    pictures = images(size=(32, 32))
    variables = jax.jit(network.init)(jax.random.key(0), pictures)
    train = jax.jit(
        lambda variables, key, rate: network.apply(
            variables, {}, pictures, key=key, train=True, drop_path=rate
        )
    )
    return network, pictures, variables, train


# Every op and every source is in the random cells: the published ones are more of the same.
OFTEN = {"DARTS_V1", "unequal", *RANDOM}


@pytest.mark.parametrize(
    "name",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in GENOTYPES],
)
def test_supernet_at_a_one_hot_mix_equals_the_network_of_the_genotype(supernet, name):
    genotype = GENOTYPES[name]
    network = SPACE.network(genotype, **SIZES, norms=search_norms)
    variables = jax.eval_shape(network.init, jax.random.key(1), images())
    # Every array must be inherited.
    variables = jax.tree.map(lambda array: jnp.full(array.shape, jnp.nan), variables)
    variables = dnas.inherit_weights(SPACE, genotype, supernet.weights, variables)
    expected = supernet.apply(supernet.weights, dnas.one_hot_mix(SPACE, genotype), images())
    both = jax.jit(
        lambda variables: [
            network.apply(variables, {}, images(), key=KEY, train=train)[0].logits
            for train in (True, False)
        ]
    )
    for logits in both(variables):
        np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


def test_different_genotypes_give_different_logits(supernet):
    mixes = [dnas.one_hot_mix(SPACE, dnas.PUBLISHED[name]) for name in ("DARTS_V1", "DARTS_V2")]
    first, second = (supernet.apply(supernet.weights, mix, images()) for mix in mixes)
    assert abs(first - second).max() > 1e-2


def test_supernet_at_none_everywhere_gives_the_bias_of_the_classifier(supernet):
    mix = {kind: jnp.zeros((14, 8)).at[:, 0].set(1.0) for kind in SPACE.cells}
    logits = supernet.apply(supernet.weights, mix, images())
    bias = supernet.weights["classifier"]["dense"]["bias"]
    np.testing.assert_allclose(logits, jnp.tile(bias, (4, 1)), atol=1e-5)


@pytest.mark.parametrize("num_nodes", [1, 3])
def test_a_space_of_other_ops_and_nodes_has_networks_of_its_shape(num_nodes):
    space = darts_space(ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=num_nodes)
    supernet = space.supernet(**SIZES)
    weights = jax.eval_shape(weights_of(supernet), jax.random.key(0), images())
    mix = dnas.one_hot_mix(space, random_genotype(jax.random.key(0), space))
    assert mix["normal"].shape == (2 + 3 + 4 if num_nodes == 3 else 2, 3)
    assert jax.eval_shape(logits_of(supernet), weights, mix, images()).shape == (4, 5)
    assert weights["classifier"]["dense"]["kernel"].shape == (16 * num_nodes, 5)


def test_inherit_weights_leaves_what_the_supernet_lacks():
    genotype = dnas.PUBLISHED["DARTS_V1"]
    weights = jax.eval_shape(weights_of(SPACE.supernet(**SIZES)), jax.random.key(0), images())
    variables = jax.eval_shape(SPACE.network(genotype, **SIZES).init, jax.random.key(0), images())
    weights = jax.tree.map(lambda array: np.zeros(array.shape), weights)
    inherited = dnas.inherit_weights(
        SPACE, genotype, weights, jax.tree.map(lambda array: np.ones(array.shape), variables)
    )
    assert jax.tree.structure(inherited) == jax.tree.structure(variables)
    for path, array in jax.tree.leaves_with_path(inherited):
        names = [part.key for part in path]
        in_supernet = names[0] == "params" and (
            names[-1] == "kernel" or names[1] in ("BatchNorm_0", "classifier")
        )
        assert (array == (0 if in_supernet else 1)).all(), names


def test_inherit_weights_refuses_networks_of_different_sizes():
    genotype = dnas.PUBLISHED["DARTS_V1"]
    weights = jax.eval_shape(weights_of(SPACE.supernet(**SIZES)), jax.random.key(0), images())
    weights = jax.tree.map(lambda array: np.zeros(array.shape), weights)
    variables = jax.eval_shape(
        SPACE.network(genotype, **{**SIZES, "channels": 6}).init, jax.random.key(0), images()
    )
    with pytest.raises(
        ValueError,
        match="in the supernet and.*build both with the same channels, num_cells and num_cl",
    ):
        dnas.inherit_weights(SPACE, genotype, weights, variables)


def test_published_supernet_has_1_930_618_weights():
    pictures = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    weights = jax.eval_shape(
        SPACE.supernet(channels=16, num_cells=8, num_classes=10).init, jax.random.key(0), pictures
    )
    assert count(weights) == 1_930_618


def test_space_has_the_edges_and_ops_of_the_paper():
    for spec in SPACE.cells.values():
        assert spec.edges == tuple((j, i) for i in range(2, 6) for j in range(i))
        assert spec.ops == tuple(
            "none max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3"
            " dil_conv_5x5".split()
        )
        assert spec.concat == (2, 3, 4, 5)


def test_unknown_op_names_itself_the_place_and_the_choices():
    with pytest.raises(
        ValueError,
        match=r"'sep_conv_9x9' is not in OPS; add it to cells/ops.py or choose from: none",
    ):
        darts_space(ops=("none", "sep_conv_9x9"))


def test_network_refuses_a_genotype_of_another_space():
    with pytest.raises(ValueError, match="belongs to the space 'other', but the space is 'darts'"):
        SPACE.network(dnas.Genotype("other", dnas.PUBLISHED["DARTS_V1"].cells))


def test_network_refuses_an_unknown_stem():
    with pytest.raises(
        ValueError, match="stem 'mnist' does not exist; choose from: cifar, imagenet"
    ):
        SPACE.network(dnas.PUBLISHED["DARTS_V1"], stem="mnist")


def test_drop_path_changes_training_and_depends_on_the_key():
    _, _, variables, train = small_network()
    plain, dropped, same, other = (
        train(variables, jax.random.key(seed), jnp.float32(rate))[0].logits
        for seed, rate in [(0, 0.0), (0, 0.5), (0, 0.5), (1, 0.5)]
    )
    np.testing.assert_array_equal(dropped, same)
    assert abs(dropped - plain).max() > 1e-3
    assert abs(dropped - other).max() > 1e-3


def test_evaluation_ignores_drop_path_and_key_and_returns_the_variables_as_they_are():
    network, pictures, variables, _ = small_network()
    outputs, same = network.apply(
        variables, {}, pictures, key=jax.random.key(0), train=False, drop_path=0.9
    )
    again, _ = network.apply(variables, {}, pictures)
    np.testing.assert_array_equal(outputs.logits, again.logits)
    assert same is variables


def test_training_moves_every_running_average_and_no_weight():
    _, _, variables, train = small_network()
    _, updated = train(variables, jax.random.key(0), jnp.float32(0.0))
    jax.tree.map(np.testing.assert_array_equal, updated["params"], variables["params"])
    for before, after in zip(
        *map(jax.tree.leaves, (variables["batch_stats"], updated["batch_stats"])), strict=True
    ):
        assert abs(before - after).max() > 0


def test_running_averages_converge_to_the_batch_so_that_evaluation_equals_training():
    network, pictures, variables, train = small_network()
    for _ in range(100):
        trained, updated = train(variables, jax.random.key(0), jnp.float32(0.0))
        variables = {**variables, "batch_stats": updated["batch_stats"]}
    evaluated, _ = network.apply(variables, {}, pictures)
    # The running variance is unbiased, the batch's is not: the last cell has 4 * 8 * 8 values a
    # channel.
    np.testing.assert_allclose(evaluated.logits, trained.logits, atol=0.05)


def test_auxiliary_logits_come_back_in_training_only():
    network, pictures, variables, train = small_network()
    outputs, _ = train(variables, jax.random.key(0), jnp.float32(0.0))
    assert outputs.auxiliary.shape == (4, 5)
    assert network.apply(variables, {}, pictures)[0].auxiliary is None


def test_variables_that_come_back_can_be_applied_again():
    network, pictures, variables, train = small_network()
    outputs, updated = train(variables, jax.random.key(0), jnp.float32(0.0))
    again, _ = network.apply(
        updated, {}, pictures, key=jax.random.key(0), train=True, drop_path=0.0
    )
    np.testing.assert_allclose(again.logits, outputs.logits, atol=1e-4)
    network.apply(updated, {}, pictures)


def test_auxiliary_head_does_not_change_the_logits():
    _, pictures, variables, train = small_network()
    outputs, _ = train(variables, jax.random.key(0), jnp.float32(0.0))
    plain = SPACE.network(dnas.PUBLISHED["PDARTS"], **SIZES)
    assert set(jax.eval_shape(plain.init, KEY, pictures)["params"]) == set(variables["params"]) - {
        "auxiliary"
    }
    found, _ = jax.jit(plain.apply, static_argnames="train")(
        variables, {}, pictures, key=KEY, train=True
    )
    np.testing.assert_allclose(found.logits, outputs.logits, atol=1e-4)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_imagenet_network_has_logits_and_auxiliary_logits(auxiliary):
    network = SPACE.network(
        dnas.PUBLISHED["DARTS_V2"], **SIZES, stem="imagenet", auxiliary=auxiliary
    )
    pictures = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), pictures)
    outputs, _ = jax.eval_shape(
        lambda v, x: network.apply(v, {}, x, key=jax.random.key(0), train=True), variables, pictures
    )
    assert outputs.logits.shape == (2, 5)
    assert outputs.auxiliary.shape == (2, 5) if auxiliary else outputs.auxiliary is None
    assert variables["params"]["Conv_0"]["kernel"].shape == (3, 3, 3, 2)


@functools.cache
def seven_cells(**more):
    """Logits and gradients of a supernet whose stages have two and three cells."""
    supernet = SPACE.supernet(channels=4, num_cells=7, num_classes=3, **more)
    weights = jax.jit(weights_of(SPACE.supernet(channels=4, num_cells=7, num_classes=3)))(
        jax.random.key(0), images()
    )
    mix = {
        kind: jax.random.uniform(jax.random.key(number), (14, 8))
        for number, kind in enumerate(SPACE.cells)
    }

    def value(weights, mix, pictures):
        logits = logits_of(supernet)(weights, mix, pictures)
        return jax.nn.log_softmax(logits)[:, 0].sum(), logits

    return jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))(weights, mix, images())


@pytest.mark.parametrize(
    "more", [{"remat": False}, {"schedule": "waves"}, {"schedule": "unrolled"}], ids=str
)
@pytest.mark.slow
def test_every_schedule_computes_the_same_supernet(more):
    chex.assert_trees_all_close(
        seven_cells(**more), seven_cells(schedule="edges"), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_partial_channels_under_both_schedules_are_the_same_supernet():
    sizes = dict(channels=4, num_cells=3, num_classes=3, partial_channels=2)
    weights = jax.jit(weights_of(SPACE.supernet(**sizes)))(jax.random.key(0), images())
    mix = {kind: jax.random.uniform(jax.random.key(1), (14, 8)) for kind in SPACE.cells}
    logits = [
        jax.jit(logits_of(SPACE.supernet(**sizes, schedule=s)))(weights, mix, images())
        for s in ("edges", "waves")
    ]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)


def test_published_partial_supernet_has_299_578_weights():
    pictures = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    supernet = SPACE.supernet(channels=16, num_cells=8, num_classes=10, partial_channels=4)
    assert count(jax.eval_shape(weights_of(supernet), jax.random.key(0), pictures)) == 299_578


def test_sampled_supernet_equals_the_weighted_one_at_a_one_hot_mix(supernet):
    genotype_like = {
        kind: jax.nn.one_hot(jax.random.randint(jax.random.key(3), (14,), 0, 8), 8)
        for kind in SPACE.cells
    }
    sampled = jax.jit(logits_of(SPACE.supernet(**SIZES, sampled=True)))
    expected = supernet.apply(supernet.weights, genotype_like, images())
    np.testing.assert_allclose(
        sampled(supernet.weights, genotype_like, images()), expected, atol=1e-4
    )


@pytest.mark.slow
def test_bfloat16_gives_float32_logits_and_gradients_near_those_of_float32():
    (value, logits), gradients = seven_cells(dtype="bfloat16")
    (expected, expected_logits), _ = seven_cells(schedule="edges")
    assert {array.dtype for array in jax.tree.leaves((value, logits, gradients))} == {
        jnp.dtype("float32")
    }
    assert jnp.linalg.norm(logits - expected_logits) < 0.05 * jnp.linalg.norm(expected_logits)
    np.testing.assert_allclose(value, expected, rtol=0.05)


def test_bfloat16_network_keeps_its_averages_in_float32():
    network = SPACE.network(dnas.PUBLISHED["DARTS_V2"], **SIZES, dtype="bfloat16")
    variables = jax.jit(network.init)(jax.random.key(0), images())
    step = jax.jit(
        lambda variables: network.apply(variables, {}, images(), key=KEY, train=True, drop_path=0.1)
    )
    outputs, updated = step(variables)
    again = jax.jit(lambda variables: network.apply(variables, {}, images())[0].logits)(updated)
    assert outputs.logits.dtype == again.dtype == jnp.float32
    chex.assert_trees_all_equal_shapes_and_dtypes(updated, variables)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"partial_channels": 3},
            "4 channels cannot be split in 3 parts; choose channels that are a multiple",
        ),
        ({"partial_channels": 0}, "4 channels cannot be split in 0 parts"),
        (
            {"schedule": "nodes"},
            "schedule 'nodes' does not exist; choose from: edges, waves, unrolled",
        ),
        ({"sampled": True, "schedule": "waves"}, "use schedule='edges'"),
        ({"dtype": "int8"}, "int8.*float32, bfloat16"),
    ],
)
def test_options_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SPACE.supernet(**SIZES, **given)
