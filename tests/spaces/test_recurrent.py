"""The recurrent networks compute what the paper's equations say, carry their state on, and have the
published size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64

import dnas
from dnas.model import Tokens
from dnas.spaces import NO_DROPOUT, Dropout, recurrent_space

SPACE = dnas.SPACES["recurrent"]
SMALL = recurrent_space(num_nodes=3)
SIZES = dict(channels=4, num_classes=7)
KEY = jax.random.key(0)
TOKENS = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
CHAIN = dnas.Genotype(
    "recurrent", {"recurrent": [(0, 1, "tanh"), (1, 2, "sigmoid"), (0, 3, "relu")]}
)
GENOTYPES = {
    "chain": CHAIN,
    "identity": dnas.Genotype(
        "recurrent", {"recurrent": [(0, 1, "identity"), (0, 2, "tanh"), (2, 3, "identity")]}
    ),
    "two edges and two ops into a node": dnas.Genotype(
        "recurrent",
        {
            "recurrent": [
                (0, 1, "tanh"),
                (0, 2, "relu"),
                (1, 2, "identity"),
                (2, 3, "sigmoid"),
                (2, 3, "tanh"),
            ]
        },
    ),
}


@functools.cache
def small_supernet(norm=False, **options):
    """(weights, apply) of a supernet, where apply is `run` of it."""
    supernet = SMALL.supernet(**SIZES, norm=norm, **options)
    return weights_of(supernet), run(supernet)


def weights_of(model):
    return model.init(KEY, Tokens(TOKENS))["params"]


def run(model):
    """(weights, mix, tokens, hidden, train, key) -> (logits, states), compiled."""

    @functools.partial(jax.jit, static_argnames="train")
    def apply(weights, mix, tokens, hidden=None, train=False, key=KEY):
        inputs = Tokens(tokens, hidden)
        outputs, _ = model.apply({"params": weights}, mix, inputs, key=key, train=train)
        return outputs.logits, outputs.hidden

    return apply


def larger(weights):
    """Weights under which activations are far from linear."""
    return jax.tree.map(lambda array: 20 * array, weights)


def by_hand(weights, genotype, tokens):
    """States [B, T, H] token by token, as section 2.1 and the equations of the module have them."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    functions = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "sigmoid": sigmoid,
        "identity": lambda x: x,
    }
    weights = jax.tree.map(np.asarray, weights)
    hidden, found = np.zeros((len(tokens), 4)), []
    for column in np.asarray(tokens).T:
        entering = np.concatenate([weights["embedding"][column], hidden], 1) @ weights["node_0"]
        states = [hidden + sigmoid(entering[:, :4]) * (np.tanh(entering[:, 4:]) - hidden)]
        for source, target, op in genotype.cells["recurrent"]:
            both = states[source] @ weights[f"node_{target}"]
            states.append(
                states[source]
                + sigmoid(both[:, :4]) * (functions[op](both[:, 4:]) - states[source])
            )
        hidden = np.mean(states[1:], 0)
        found.append(hidden)
    return np.stack(found, 1)


def test_network_computes_the_equations_of_the_paper():
    network = SMALL.network(CHAIN, **SIZES)
    weights = larger(weights_of(network)) | {"bias": jnp.arange(7.0)}
    logits, states = run(network)(weights, {}, TOKENS)
    np.testing.assert_allclose(states, by_hand(weights, CHAIN, TOKENS), atol=1e-5)
    np.testing.assert_allclose(logits, states @ weights["embedding"].T + weights["bias"], atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", GENOTYPES)
def test_supernet_at_a_one_hot_mix_equals_the_network_of_the_genotype(name, norm):
    weights, apply = small_supernet(norm)
    weights, mix = larger(weights), dnas.one_hot_mix(SMALL, GENOTYPES[name])
    network = SMALL.network(GENOTYPES[name], **SIZES, norm=norm)
    expected = run(network)(weights, {}, TOKENS)
    for one, other in zip(apply(weights, mix, TOKENS), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_supernet_is_the_sum_over_all_ops_of_their_shares():
    weights, apply = small_supernet()
    rows = (
        jnp.zeros((6, 5)).at[:, 0].set(0.5).at[0, 1:3].set(0.25).at[1, 3].set(0.5).at[3, 4].set(0.5)
    )
    hidden = jnp.full((3, 4), 0.3)
    nothing = jnp.zeros((6, 5)).at[:, 0].set(1.0)
    states, none_only, more_none = (
        apply(larger(weights), {"recurrent": own}, TOKENS, hidden)[1]
        for own in (rows, nothing, rows.at[:, 0].set(9.0))
    )
    assert not none_only.any(), "none contributes nothing"
    np.testing.assert_array_equal(states, more_none)
    assert states.any()


def test_a_mix_for_each_text_equals_texts_one_by_one():
    weights, apply = small_supernet()
    mixes = jax.random.uniform(KEY, (3, 6, 5))
    together = apply(larger(weights), {"recurrent": mixes.transpose(1, 2, 0)}, TOKENS)[0]
    for number in range(3):
        own = {"recurrent": mixes[number]}
        alone = apply(larger(weights), own, TOKENS[number : number + 1])[0]
        np.testing.assert_allclose(together[number], alone[0], atol=1e-5)


@pytest.mark.parametrize("first", [1, 4])
def test_windows_that_carry_the_state_equal_one_long_window(first):
    network = SMALL.network(CHAIN, **SIZES)
    weights, apply = larger(weights_of(network)), run(network)
    whole, states = apply(weights, {}, TOKENS)
    before, carried = apply(weights, {}, TOKENS[:, :first])
    after, last = apply(weights, {}, TOKENS[:, first:], carried[:, -1])
    np.testing.assert_allclose(jnp.concatenate([before, after], 1), whole, atol=1e-5)
    np.testing.assert_allclose(last[:, -1], states[:, -1], atol=1e-5)


def test_norms_see_the_batch_and_texts_are_apart_without_them():
    weights, normed = small_supernet(norm=True)
    _, plain = small_supernet()
    mix = {"recurrent": jnp.full((6, 5), 0.2)}
    other = TOKENS.at[2].set((TOKENS[2] + 1) % 7)
    for apply, depends in ((normed, True), (plain, False)):
        one, two = (apply(larger(weights), mix, tokens)[0][0] for tokens in (TOKENS, other))
        assert bool((one != two).any()) == depends


def test_a_norm_leaves_node_states_of_mean_zero_and_variance_one():
    space = recurrent_space(num_nodes=1)
    supernet = space.supernet(**SIZES)
    weights = larger(weights_of(supernet))
    states = run(supernet)(weights, {"recurrent": jnp.full((1, 5), 0.2)}, TOKENS)[1]
    np.testing.assert_allclose(states.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(states.var(0), 1.0, atol=1e-2)


def test_without_dropout_training_is_deterministic_and_equals_evaluation():
    weights, apply = small_supernet(dropout=NO_DROPOUT)
    mix = {"recurrent": jnp.full((6, 5), 0.2)}
    runs = [(False, KEY), (True, KEY), (True, jax.random.key(5))]
    found = [apply(weights, mix, TOKENS, None, train, key)[0] for train, key in runs]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("rate", Dropout._fields)
def test_every_rate_of_dropout_acts_in_training_alone(rate):
    weights, apply = small_supernet(dropout=NO_DROPOUT._replace(**{rate: 0.5}))
    mix = {"recurrent": jnp.full((6, 5), 0.2)}
    hidden = jnp.ones((3, 4))
    found = [
        apply(larger(weights), mix, TOKENS, hidden, True, jax.random.key(seed))[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
    quiet = [
        apply(larger(weights), mix, TOKENS, hidden, False, jax.random.key(seed))[0]
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*quiet)


def test_a_mask_holds_for_all_tokens_of_a_text_and_keeps_the_mean():
    """Of the output: logits of one-hot embeddings are the states themselves, so that the mask can
    be seen."""
    network = SMALL.network(
        CHAIN, channels=200, num_classes=200, dropout=NO_DROPOUT._replace(output=0.25)
    )
    weights = weights_of(network) | {"embedding": jnp.eye(200)}
    logits, states = run(network)(weights, {}, TOKENS, jnp.ones((3, 200)), True)
    mask = logits / states
    np.testing.assert_allclose(mask, jnp.broadcast_to(mask[:, :1], mask.shape), atol=1e-5)
    assert {round(float(value), 2) for value in np.unique(mask)} == {0.0, 1.33}
    assert float(mask[:, 0].mean()) == pytest.approx(1.0, abs=0.1)


def test_a_dropped_word_is_dropped_for_all_texts():
    network = SMALL.network(
        CHAIN, channels=4, num_classes=50, dropout=NO_DROPOUT._replace(words=0.5)
    )
    weights = larger(weights_of(network))
    tokens = jnp.tile(jnp.arange(50)[:, None], (1, 2)).T[..., None].swapaxes(0, 1).reshape(100, 1)
    states = run(network)(weights, {}, tokens, None, True)[1][:, 0].reshape(50, 2, 4)
    np.testing.assert_array_equal(states[:, 0], states[:, 1])
    # What has been dropped reads alike, and what has not does not.
    assert (
        10
        < np.unique(np.round(np.asarray(states[:, 0]), 4), axis=0, return_counts=True)[1].max()
        < 40
    )


def test_computing_again_for_the_gradient_changes_nothing():
    mix = {"recurrent": jnp.full((6, 5), 0.2)}
    gradients = []
    for remat in (False, True):
        supernet = SMALL.supernet(**SIZES, remat=remat)

        def loss(weights, supernet=supernet):
            return run(supernet)(weights, mix, TOKENS, None, True)[0].var()

        gradients.append(jax.jit(jax.grad(loss))(weights_of(supernet)))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), *gradients)


@pytest.mark.parametrize("norm", [False, True])
def test_gradients_of_mix_and_weights_equal_finite_differences(norm):
    with enable_x64(True):
        supernet = recurrent_space(num_nodes=2).supernet(channels=3, num_classes=4, norm=norm)
        weights = larger(supernet.init(jax.random.key(3), Tokens(TOKENS))["params"])
        point = {"mix": jax.random.uniform(jax.random.key(4), (3, 5)), **weights}
        assert {leaf.dtype.name for leaf in jax.tree.leaves(point)} == {"float64"}
        tokens = TOKENS[:, :3] % 4

        @jax.jit
        def loss(point):
            mix, weights = (
                {"recurrent": point["mix"]},
                {name: rows for name, rows in point.items() if name != "mix"},
            )
            logits, states = run(supernet)(weights, mix, tokens, jnp.full((3, 3), 0.1), True)
            return jnp.sin(logits).sum() + states.var()

        gradient = jax.jit(jax.grad(loss))(point)
        assert all(bool(part.any()) for part in jax.tree.leaves(gradient))
        for seed in range(3):
            keys = iter(jax.random.split(jax.random.key(seed), len(point)))
            along = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), point)  # noqa: B023
            up, down = (
                loss(jax.tree.map(lambda x, d, sign=sign: x + sign * 1e-5 * d, point, along))
                for sign in (1, -1)
            )
            product = sum(
                (g * d).sum()
                for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
            )
            assert float((up - down) / 2e-5) == pytest.approx(float(product), rel=1e-5)


def test_the_network_for_penn_treebank_has_the_published_23_million_parameters():
    """V x H + V for words, (2H) x (2H) for node 0 and H x 2H for each of 8 nodes; the paper prints
    23M, section 3.3."""
    for sizes, built in (
        ((10_000, 850), SPACE.network(dnas.PUBLISHED["DARTS_RNN_V2"])),
        ((10_000, 300), SPACE.supernet()),
    ):
        vocabulary, size = sizes
        weights = jax.eval_shape(built.init, KEY, Tokens(TOKENS))
        total = sum(leaf.size for leaf in jax.tree.leaves(weights))
        assert total == vocabulary * size + vocabulary + (2 * size) ** 2 + 8 * size * 2 * size
        assert total == {850: 22_960_000, 300: 4_810_000}[size]


def test_bfloat16_keeps_the_types_of_logits_states_and_gradients():
    network = SMALL.network(CHAIN, **SIZES, dtype="bfloat16")
    weights = weights_of(network)
    loss = lambda weights: run(network)(weights, {}, TOKENS, None, True)[0].var()  # noqa: E731
    logits, states = run(network)(weights, {}, TOKENS)
    exact = run(SMALL.network(CHAIN, **SIZES))(weights, {}, TOKENS)[0]
    np.testing.assert_allclose(logits, exact, atol=1e-3)
    assert {
        leaf.dtype.name for leaf in jax.tree.leaves((logits, states, jax.grad(loss)(weights)))
    } == {"float32"}


def test_a_selected_cell_has_the_best_edge_of_every_node_and_never_none():
    rows = np.full((36, 5), 0.1)
    rows[:, 0] = 0.9
    rows[SPACE.cells["recurrent"].edges.index((2, 5)), 3] = 0.5
    edges = dnas.default_selection(SPACE, {"recurrent": rows}).cells["recurrent"]
    assert [edge.target for edge in edges] == list(range(1, 9))
    assert edges[4] == (2, 5, "sigmoid")
    assert all(edge[::2] == (0, "tanh") for edge in edges if edge.target != 5), (
        "ties go to the first source and op"
    )


REFUSED = {
    "a convolution": (
        lambda: recurrent_space(ops=("none", "sep_conv_3x3")),
        "choose from: none, tanh",
    ),
    "nothing to choose": (lambda: recurrent_space(ops=("none",)), "needs an op besides none"),
    "one name": (lambda: recurrent_space(ops="tanh"), "each is a text, not 'tanh'"),
    "no nodes": (lambda: recurrent_space(num_nodes=0), "at least one node"),
    "no channels": (lambda: SPACE.supernet(channels=0), "channels is a whole number from 1"),
    "no words": (lambda: SPACE.supernet(num_classes=0), "at least one word"),
    "a rate of one": (lambda: SPACE.supernet(dropout=Dropout(output=1.0)), "up to but not 1"),
    "a type": (lambda: SPACE.supernet(dtype="int8"), "floating-point"),
    "two cells": (lambda: SPACE.supernet(num_cells=2), "one cell"),
    "another space": (lambda: SPACE.network(dnas.PUBLISHED["DARTS_V2"]), "'darts'"),
    "images": (
        lambda: dnas.run_search(SPACE, (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, int))),
        "read tokens",
    ),
    "counts of images": (
        lambda: dnas.count_network(SPACE, dnas.PUBLISHED["DARTS_RNN_V2"]),
        "read tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_recurrent_space_cannot_be_is_refused(name):
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        make()
