"""Scores without training: published vectors, laws, and that a supernet scores as its networks
do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.base import enable_x64
from dnas.cells.norms import NO_NORMS, search_norms
from dnas.model import Model, Outputs, Tokens
from dnas.scores import LAST, SCORES, Score, live_mix, make_scorer
from dnas.scores.fisher import SHARED_NORMS
from dnas.tasks.task import classification_loss

# Two layers, three examples: ../shared/facts-baselines.md, section 10.1.
FIRST = [[1.0, -1.0], [2.0, 0.0], [0.0, 1.0]]
SECOND = [[1.0, 1.0, 0.0], [0.0, -1.0, 2.0]]
INPUTS, TARGETS = [[1.0, 0.0], [1.0, 2.0], [-1.0, 1.0]], [0, 1, 1]
K = 1e-5
VECTOR = {
    "grad_norm": 1.786743260212635,
    "snip": 2.8122181941809203,
    "grasp": -1.469751624898136,
    "synflow": np.log(16),
    "jacob_cov": -(2 * (np.log(K) + 1 / K) + np.log(3 + K) + 1 / (3 + K)),
    "naswot": np.log(12),
    "gradsign": 10,
    "fisher": 0.412730679868,
}


def chain(*matrices):
    """The network of these products with ReLUs in between, and its weights."""

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        *first, last = variables["params"].values()
        for matrix in first:
            inputs = jax.nn.relu(inputs @ matrix)
        return Outputs(inputs @ last), variables

    weights = {f"layer_{n}": jnp.asarray(matrix).T for n, matrix in enumerate(matrices)}
    return Model(lambda key, inputs: {"params": weights}, apply), {"params": weights}


def score_of(name, matrices, inputs=INPUTS, targets=TARGETS):
    with enable_x64(True):
        batch = dnas.Batch(jnp.asarray(inputs, jnp.float64), jnp.asarray(targets))
        model, variables = chain(*(np.asarray(matrix, np.float64) for matrix in matrices))
        found = SCORES[name].measure(model, variables, {}, batch)
        return SCORES[name].value(np.asarray(found))


@pytest.mark.parametrize("name", VECTOR)
def test_the_published_network_has_its_scores(name):
    assert score_of(name, (FIRST, SECOND)) == pytest.approx(VECTOR[name], rel=1e-9)


def test_two_batches_of_one_example_have_their_zico():
    found = score_of("zico", (FIRST, SECOND), INPUTS[:2], TARGETS[:2])
    assert found == pytest.approx(3.401197381662, rel=1e-9)
    with pytest.raises(ValueError, match="3 examples are no 2 batches"):
        score_of("zico", (FIRST, SECOND))


def random_chain():
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in ((30, 4), (20, 30), (3, 20))]


def random_batch():
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, 4)), rng.integers(3, size=3)


def test_what_flows_through_a_chain_is_the_same_in_each_layer():
    matrices = random_chain()
    total = np.ones(4)
    for matrix in matrices:
        total = np.abs(matrix) @ total
    for count in (1, 2, 3):
        of_first = np.exp(score_of("synflow", matrices[:count], *random_batch()))
        sums = np.ones(4)
        for matrix in matrices[:count]:
            sums = np.abs(matrix) @ sums
        assert of_first == pytest.approx(count * sums.sum())


@pytest.mark.parametrize(
    ("name", "changes"), [("snip", False), ("grasp", True), ("grad_norm", True)]
)
def test_a_factor_moved_from_layer_to_layer(name, changes):
    first, second, third = random_chain()
    before = score_of(name, (first, second, third), *random_batch())
    after = score_of(name, (3 * first, second / 3, third), *random_batch())
    assert (after != pytest.approx(before, rel=1e-6)) == changes


@pytest.mark.parametrize("name", ["jacob_cov", "naswot"])
def test_the_order_of_examples_and_of_units_does_not_matter(name):
    (first, second, third), (inputs, targets) = random_chain(), random_batch()
    before = score_of(name, (first, second, third), inputs, targets)
    order, units = [2, 0, 1], np.random.default_rng(2).permutation(30)
    shuffled = score_of(name, (first, second, third), inputs[order], targets[order])
    renamed = score_of(name, (first[units], second[:, units], third), inputs, targets)
    assert shuffled == pytest.approx(before) and renamed == pytest.approx(before)


def test_codes_of_relus_do_not_depend_on_the_scale_of_a_layer():
    first, second, third = random_chain()
    before = score_of("naswot", (first, second, third), *random_batch())
    assert score_of("naswot", (7 * first, second, 0.1 * third), *random_batch()) == before


def test_fisher_is_that_of_what_layers_make():
    """Against the gradients of the outputs themselves, through norms that examples share."""
    keys = jax.random.split(jax.random.key(0), 4)
    images, labels = jax.random.normal(keys[0], (4, 6, 6, 3)), jnp.array([0, 1, 2, 0])
    weights = {
        "conv": {"kernel": jax.random.normal(keys[1], (3, 3, 3, 5))},
        "dense": {
            "kernel": jax.random.normal(keys[2], (5, 3)),
            "bias": jax.random.normal(keys[3], (3,)),
        },
    }

    def network(weights, x, norm, moved=(0.0, 0.0)):
        kernel, dense = weights["conv"]["kernel"], weights["dense"]
        form = ("NHWC", "HWIO", "NHWC")
        first = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=form)
        pooled = jax.nn.relu(norm(first + moved[0])).mean((1, 2))
        last = pooled @ dense["kernel"] + dense["bias"]
        return last + moved[1], (first, last)

    def plain_norm(x):
        return (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)

    def loss(moved):
        logits = network(weights, images, plain_norm, moved)[0]
        return classification_loss(logits, labels)[0]

    def apply(variables, mix, inputs, *, train=False):
        return Outputs(network(variables["params"], inputs, SHARED_NORMS.conv())[0]), variables

    outputs = network(weights, images, plain_norm)[1]
    gradients = jax.grad(loss)(tuple(map(jnp.zeros_like, outputs)))
    expected = 0.0
    for a, g, fan_in in zip(outputs, gradients, (27, 5), strict=True):
        of_channels = (a * g).reshape(4, -1, a.shape[-1]).sum(1)
        expected += fan_in * jnp.square(of_channels).mean(0).sum() / 2
    model = Model(lambda key, inputs: {"params": weights}, apply)
    found = SCORES["fisher"].measure(model, {"params": weights}, {}, dnas.Batch(images, labels))
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


SPACE = dnas.SPACES["nasbench201"]
SIZES: dict[str, Any] = {"channels": 4, "num_cells": 3, "num_classes": 3}
CELLS = [
    dnas.Genotype.from_text(text)
    for text in (
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
        "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|",
    )
]  # all of the first runs; nothing reaches node 1 of the second
DISCONNECTED = dnas.Genotype.from_text(
    "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
)


def batch_of(size=4, side=8, num_classes=3):
    images = jax.random.normal(jax.random.key(0), (size, side, side, 3))
    return dnas.Batch(images, jnp.arange(size) % num_classes)


def without_dead_ends(cell):
    """The cell with `none` on the edges that change nothing."""
    live = SPACE.cells["cell"].live_edges_of(cell.cells["cell"])
    edges = [(*edge[:2], edge.op if edge in live else "none") for edge in cell.cells["cell"]]
    return dnas.Genotype("nasbench201", {"cell": edges}, {"cell": (3,)})


NORMS = {"synflow": NO_NORMS, "fisher": SHARED_NORMS}  # others have those of a search


def network_score(name, genotype, batch):
    """The score of a genotype's own network with the weights of the supernet."""
    score, norms = SCORES[name], NORMS.get(name, search_norms())
    weights = score.network(SPACE, batch.inputs, **SIZES).init(jax.random.key(0), batch.inputs)
    drawn, network = (
        SPACE.network(genotype, **SIZES, norms=lambda train, norms=norms: norms)
        for norms in (NO_NORMS if name in NORMS else norms, norms)
    )
    with enable_x64(score.wide):
        variables = drawn.init(jax.random.key(1), batch.inputs)
        variables = dnas.inherit_weights(SPACE, genotype, weights["params"], variables)
        found = jax.jit(lambda *args: score.measure(network, *args))(variables, {}, batch)
    return score.value(jax.tree.map(np.asarray, found))


CASES = [
    pytest.param("snip"),
    pytest.param("naswot"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in SCORES
        if name not in ("snip", "naswot", "macs", "hidden_covariance")
    ),
]


@pytest.mark.parametrize("name", CASES)
def test_a_supernet_scores_as_the_network_of_a_cell_does(name):
    scorer = make_scorer(SPACE, {name: SCORES[name]}, batch_of(), **SIZES)
    for cell in CELLS:
        own = network_score(name, without_dead_ends(cell), batch_of())
        # The signs of some gradients are those of rounding.
        assert scorer(cell)[name] == pytest.approx(own, rel=0.02 if name == "gradsign" else 1e-3)


def test_one_program_serves_all_architectures_and_seeds():
    traced = []

    def logits(model, variables, mix, batch):
        traced.append(mix)
        return model.apply(variables, mix, batch.inputs)[0].logits.sum()

    scorer = make_scorer(SPACE, {"own": Score(logits)}, batch_of(), seeds=(0, 1), **SIZES)
    values = {scorer(cell)["own"] for cell in (*CELLS, DISCONNECTED)}
    assert len(values) == 3 and len(traced) == 1


def test_a_score_is_the_mean_over_seeds_of_weights():
    def first(model, variables, mix, batch):
        return jax.tree.leaves(variables)[0].sum()

    def scored(seeds):
        return make_scorer(SPACE, {"w": Score(first)}, batch_of(), seeds=seeds, **SIZES)(CELLS[0])

    assert scored((0, 1))["w"] == pytest.approx(np.mean([scored((n,))["w"] for n in (0, 1)]))


def test_what_has_no_finite_score_ranks_last():
    bad = {
        str(value): Score(lambda *args, value=value: jnp.asarray(value))
        for value in (jnp.nan, jnp.inf, -jnp.inf)
    }
    found = make_scorer(SPACE, bad, batch_of(), **SIZES)(CELLS[0])
    assert set(found.values()) == {LAST}


def test_a_disconnected_cell_ranks_last_or_is_finite():
    names = ("naswot", "snip")
    scores = {name: SCORES[name] for name in names}
    scorer = make_scorer(SPACE, scores, batch_of(), **SIZES)
    dead, alive = scorer(DISCONNECTED), [scorer(cell) for cell in CELLS]
    for name in names:
        assert dead[name] < min(own[name] for own in alive)
    assert not live_mix(SPACE, DISCONNECTED)["cell"].any()


def test_codes_are_of_the_relus_that_a_network_has():
    """K_ii counts all units: 5 ReLUs of the trunk and one a live convolution."""
    units = SCORES["naswot"]._replace(value=lambda matrix: matrix[0, 0])
    scorer = make_scorer(SPACE, {"units": units}, batch_of(), **SIZES)
    trunk = 4 * 64 + 8 * 16 + 8 * 16 + 16 * 4 + 16 * 4
    assert scorer(DISCONNECTED)["units"] == trunk
    of_convolution = 4 * 64 + 8 * 16 + 16 * 4
    assert scorer(CELLS[0])["units"] == trunk + 3 * of_convolution
    assert scorer(CELLS[1])["units"] == trunk + 1 * of_convolution


def test_multiply_adds_are_those_of_live_branches():
    scorer = make_scorer(SPACE, {"macs": SCORES["macs"]}, batch_of(), **SIZES)
    for cell in (*CELLS, DISCONNECTED):
        count = dnas.count_network(SPACE, without_dead_ends(cell), **SIZES, image_size=8)
        assert scorer(cell)["macs"] == count.macs


def test_hidden_states_of_a_recurrent_cell_are_scored():
    space = dnas.recurrent_space(name="small", num_nodes=2)
    tokens = jax.random.randint(jax.random.key(0), (4, 6), 0, 7)
    batch = dnas.Batch(Tokens(tokens), jnp.roll(tokens, -1, axis=1))
    names = ("hidden_covariance", "snip", "gradsign")
    scores = {name: SCORES[name] for name in names}
    scorer = make_scorer(space, scores, batch, channels=5, num_classes=7)
    cells = [dnas.random_genotype(jax.random.key(seed), space) for seed in range(3)]
    found = [scorer(cell) for cell in cells]
    assert all(np.isfinite([*own.values()]).all() for own in found)
    assert len({own["hidden_covariance"] for own in found}) == len(set(cells))


def test_mistakes_are_named():
    batch = batch_of()
    with pytest.raises(ValueError, match="'hidden_covariance' is of networks that read tokens"):
        make_scorer(SPACE, {"hidden_covariance": SCORES["hidden_covariance"]}, batch, **SIZES)
    with pytest.raises(ValueError, match="at least one, such as seeds"):
        make_scorer(SPACE, {}, batch, seeds=(), **SIZES)
