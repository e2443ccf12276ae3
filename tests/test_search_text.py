"""A search on a text reads window after window, each level its own part, and stops and goes on
without a trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dnas
from dnas.bilevel import alternating, first_order
from dnas.graph import CellSpec
from dnas.model import Model, Outputs
from dnas.search_text import recurrent_optimizer, search_text
from dnas.space import SearchSpace
from dnas.spaces import NO_DROPOUT, recurrent_space
from dnas.tasks.text import Text

SPACE = recurrent_space(num_nodes=1)
TOKENS = np.random.default_rng(0).integers(0, 6, 200).astype(np.int32)
TEXT = Text(
    TOKENS, TOKENS[:70], TOKENS[:30], tuple("abcdef")
)  # 66 tokens a stream: 13 windows of 5, and 4 for validation
quiet = dict(report=lambda progress: None, announce=lambda memory: None)


def search(space=SPACE, text=TEXT, **changes):
    settings = dict(channels=4, epochs=2, batch_size=3, window=5, **quiet)
    return search_text(space, text, **settings | changes)


def data_of(state):
    return jax.tree.map(
        lambda leaf: np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ),
        state,
    )


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, data_of(one), data_of(other))


@functools.cache
def whole():
    return search()


@pytest.mark.parametrize("stop", [1, 13, 20])
def test_resumed_search_equals_the_uninterrupted_one(stop):
    part = search(max_steps=stop)
    assert int(part.state.step) == stop
    resumed = search(resume=lambda state: part.state)
    assert_same(resumed.state, whole().state)
    assert resumed.genotype == whole().genotype


def logits_of(state):
    return state.arch["recurrent"]["ops"]


def test_another_seed_gives_another_search():
    assert_same(search().state, whole().state)
    assert (logits_of(search(seed=1).state) != logits_of(whole().state)).any()


def counting_space(calls):
    """Its states count the tokens since the start of a text; its logits are a bias plus the mix
    times an own logit a part."""

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        del key, drop_path
        calls.append(train)
        (tokens, hidden), weights = inputs, variables["params"]
        states = hidden[:, None] + jnp.cumsum(jnp.ones(tokens.shape), axis=1)[..., None]
        logits = weights["bias"] + mix["recurrent"].sum(0) @ weights["ops"]
        logits = jnp.broadcast_to(logits, (*tokens.shape, len(logits)))
        return Outputs(logits, hidden=states), variables

    def supernet(*, channels, num_classes):
        def init(key, inputs):
            ops = jax.random.normal(key, (2, num_classes))
            return {"params": {"bias": jnp.zeros(num_classes), "ops": ops}}

        return Model(init, apply)

    spec = CellSpec(1, 1, edges=((0, 1),), ops=("tanh", "relu"), concat=(1,), keep=1)
    return SearchSpace("counting", {"recurrent": spec}, None, supernet, None, inputs="tokens")


@pytest.mark.parametrize(
    ("steps", "train", "valid"), [(1, 5, 5), (4, 20, 20), (5, 25, 5), (13, 65, 5), (14, 5, 10)]
)
def test_states_are_carried_on_and_start_anew_with_each_reading_of_a_part(steps, train, valid):
    state = search(counting_space([]), max_steps=steps).state
    np.testing.assert_array_equal(state.hidden, np.full((3, 4), train))
    np.testing.assert_array_equal(state.valid_hidden, np.full((3, 4), valid))


def test_weights_learn_from_the_part_for_training_and_arch_from_that_for_validation():
    ones, twos = np.full(200, 1, np.int32), np.full(70, 2, np.int32)
    optimizer = lambda epochs, steps: alternating(first_order(), optax.sgd(1.0), optax.sgd(1.0))  # noqa: E731
    result = search(
        counting_space([]), Text(ones, twos, twos, tuple("abc")), max_steps=1, optimizer=optimizer
    )
    bias = result.state.search.weights["bias"]
    assert bias[1] > 0 > max(bias[0], bias[2])
    before = search(counting_space([]), Text(ones, twos, twos, tuple("abc")), max_steps=0).state
    moved = (logits_of(result.state) - logits_of(before))[0]
    better = before.search.weights["ops"][
        :, 2
    ].argmax()  # near enough, from equal shares and no bias
    odds = jax.nn.log_softmax(before.search.weights["ops"], axis=-1)[:, 2]
    assert moved.argmax() == better or odds[0] != odds[1]
    assert moved[0] == pytest.approx(-float(moved[1]), abs=1e-6) and moved.any()


def test_a_single_level_reads_the_training_part_only():
    ones, twos = np.full(200, 1, np.int32), np.full(70, 2, np.int32)

    def optimizer(epochs, steps):
        return dnas.single_level(optax.sgd(1.0), optax.sgd(1.0), inner_weight=0.0)

    text = Text(ones, twos, twos, tuple("abc"))
    result = search(counting_space([]), text, single_level=True, optimizer=optimizer, epochs=1)
    assert result.history[0]["valid_loss"] == result.history[0]["loss"] < 0.5
    np.testing.assert_array_equal(result.state.hidden, result.state.valid_hidden)


def test_step_is_compiled_once():
    short, long = [], []
    search(counting_space(short), max_steps=3)
    search(counting_space(long), epochs=3)
    assert len(short) == len(long) and all(short)


def test_slowness_counts_for_the_weights_and_not_for_arch():
    states = [search(max_steps=1, slowness=slowness).state for slowness in (0.0, 10.0)]
    np.testing.assert_array_equal(*(logits_of(state) for state in states))
    assert (states[0].search.weights["node_0"] != states[1].search.weights["node_0"]).any()


def test_first_step_is_a_clipped_step_of_plain_sgd_from_where_the_seed_starts():
    start = search(max_steps=0, supernet_options={"dropout": NO_DROPOUT}).state
    after = search(max_steps=1, supernet_options={"dropout": NO_DROPOUT}, slowness=0.0).state
    changes = jax.tree.map(
        lambda new, old: (new - old) / 20, after.search.weights, start.search.weights
    )
    norm = float(optax.global_norm(changes))
    assert norm == pytest.approx(0.25, rel=1e-3), (
        "the first gradient is larger than 0.25 here, and decay is tiny"
    )
    assert float(jnp.abs(logits_of(after) - logits_of(start)).max()) == pytest.approx(
        3e-3, rel=1e-2
    )


@pytest.mark.parametrize(
    "arch_gradient",
    [pytest.param(dnas.unrolled(), marks=pytest.mark.slow), dnas.finite_differences()],
    ids=["unrolled", "differences"],
)
def test_second_order_runs_and_moves_arch_otherwise_than_first_order(arch_gradient):
    made = functools.partial(recurrent_optimizer, arch_gradient=arch_gradient)
    second, first = (
        logits_of(search(max_steps=2, **options).state) for options in ({"optimizer": made}, {})
    )
    assert np.isfinite(second).all() and (second != first).any()


@pytest.mark.parametrize(
    "relaxation",
    [dnas.gumbel_hard(), dnas.per_sample(dnas.gumbel_softmax(), 3)],
    ids=["hard", "each"],
)
def test_samples_may_be_hard_or_one_for_each_text(relaxation):
    result = search(max_steps=2, relaxation=relaxation)
    assert np.isfinite(result.history[0]["loss"])


def test_a_text_that_repeats_itself_is_learnt():
    letters = np.tile(np.arange(6, dtype=np.int32), 60)
    text = Text(letters, letters[:100], letters[:100], tuple("abcdef"))
    slower = functools.partial(
        recurrent_optimizer, learning_rate=5.0
    )  # than for words, of which there are thousands
    history = search(
        text=text, epochs=8, optimizer=slower, supernet_options={"dropout": NO_DROPOUT}, seed=1
    ).history
    assert history[0]["loss"] > 2 * history[-1]["loss"]


REFUSED = {
    "images": (dict(space=dnas.SPACES["darts"]), "read images and not tokens; take images"),
    "batch": (dict(batch_size=50), "lower the batch size or the window"),
    "epochs": (dict(epochs=0), "at least 1"),
    "seed": (dict(seed=-1), "seed at least 0"),
    "selection": (dict(select=dnas.top_edges(2)), "fewer than k = 2"),
    "candidates": (dict(candidates={"recurrent": np.ones((2, 5))}), "needs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_any_step(name):
    changes, reason = REFUSED[name]
    steps = []
    with pytest.raises(ValueError, match=reason):
        search(**{"report": steps.append} | changes)
    assert not steps
