"""A search on a text reads window after window, each level its own part, and stops and goes on
without a trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear import assert_same

import dnas
from dnas import Hooks, Method, bilevel, hw_loss, rules, tasks
from dnas.bilevel import alternating, first_order, recurrent_optimizer
from dnas.graph import CellSpec
from dnas.model import Model, Outputs
from dnas.run import run_search
from dnas.space import SearchSpace
from dnas.spaces import NO_DROPOUT, recurrent_space
from dnas.tasks.reading import Text

SPACE = recurrent_space(num_nodes=1)
TOKENS = np.random.default_rng(0).integers(0, 6, 200).astype(np.int32)
# 66 tokens a stream: 13 windows of 5, and 4 for validation.
TEXT = Text(TOKENS, TOKENS[:70], TOKENS[:30], tuple("abcdef"))
quiet = dict(report=lambda progress: None, announce=lambda memory: None)


def arch_of(state):
    return state.arch["recurrent"]["ops"]


def search(space=SPACE, text=TEXT, **changes):
    """`run_search`, with what a task, a method and hooks are made of among the changes."""
    settings = dict(channels=4, epochs=2, batch_size=3, window=5, optimizer=recurrent_optimizer)
    settings |= quiet | changes

    def taken(names):
        return {name: settings.pop(name) for name in names if name in settings}

    task = tasks.text(text, **taken(("window", "slowness")))
    method, hooks = Method(**taken(Method._fields)), Hooks(**taken(Hooks._fields))
    return run_search(space, task, method, hooks=hooks, **settings)


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


def test_another_seed_gives_another_search():
    assert_same(search().state, whole().state)
    assert (arch_of(search(seed=1).state) != arch_of(whole().state)).any()


def counting_space(calls):
    """Its states count the tokens since the start of a text; its logits are a bias plus the mix
    times an own logit a part."""

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        del key, drop_path
        calls.append(train)
        (tokens, hidden), weights = inputs, variables["params"]
        hidden = jnp.zeros((len(tokens), 4)) if hidden is None else hidden
        states = hidden[:, None] + jnp.cumsum(jnp.ones(tokens.shape), axis=1)[..., None]
        logits = weights["bias"] + mix["recurrent"].sum(0) @ weights["ops"]
        logits = jnp.broadcast_to(logits, (*tokens.shape, len(logits)))
        return Outputs(logits, hidden=states), variables

    def supernet(*, channels, num_classes, num_cells):
        def init(key, inputs):
            ops = jax.random.normal(key, (2, num_classes))
            return {"params": {"bias": jnp.zeros(num_classes), "ops": ops}}

        return Model(init, apply)

    spec = CellSpec(1, 1, edges=((0, 1),), ops=("tanh", "relu"), concat=(1,), keep=1)
    layers = lambda **sizes: ()  # noqa: E731
    return SearchSpace("counting", {"recurrent": spec}, layers, supernet, None, inputs="tokens")


@pytest.mark.parametrize(
    ("steps", "train", "valid"), [(1, 5, 5), (4, 20, 20), (5, 25, 5), (13, 65, 5), (14, 5, 10)]
)
def test_states_are_carried_on_and_start_anew_with_each_reading_of_a_part(steps, train, valid):
    state = search(counting_space([]), max_steps=steps).state
    np.testing.assert_array_equal(state.carried[0], np.full((3, 4), train))
    np.testing.assert_array_equal(state.carried[1], np.full((3, 4), valid))


def test_weights_learn_from_the_part_for_training_and_arch_from_that_for_validation():
    ones, twos = np.full(200, 1, np.int32), np.full(70, 2, np.int32)
    optimizer = lambda epochs, steps: alternating(first_order(), optax.sgd(1.0), optax.sgd(1.0))  # noqa: E731
    result = search(
        counting_space([]), Text(ones, twos, twos, tuple("abc")), max_steps=1, optimizer=optimizer
    )
    bias = result.state.weights["bias"]
    assert bias[1] > 0 > max(bias[0], bias[2])
    before = search(counting_space([]), Text(ones, twos, twos, tuple("abc")), max_steps=0).state
    moved = (arch_of(result.state) - arch_of(before))[0]
    better = before.weights["ops"][:, 2].argmax()  # near enough, from equal shares and no bias
    odds = jax.nn.log_softmax(before.weights["ops"], axis=-1)[:, 2]
    assert moved.argmax() == better or odds[0] != odds[1]
    assert moved[0] == pytest.approx(-float(moved[1]), abs=1e-6) and moved.any()


def test_a_single_level_reads_the_training_part_only():
    ones, twos = np.full(200, 1, np.int32), np.full(70, 2, np.int32)

    def optimizer(epochs, steps):
        return dnas.single_level(optax.sgd(1.0), optax.sgd(1.0), inner_weight=0.0)

    text = Text(ones, twos, twos, tuple("abc"))
    result = search(counting_space([]), text, single_level=True, optimizer=optimizer, epochs=1)
    assert result.history[0]["valid_loss"] == result.history[0]["loss"] < 0.5
    np.testing.assert_array_equal(*result.state.carried)


def test_step_is_compiled_once():
    short, long = [], []
    search(counting_space(short), max_steps=3)
    search(counting_space(long), epochs=3)
    assert len(short) == len(long)


def test_slowness_counts_for_the_weights_and_not_for_arch():
    states = [search(max_steps=1, slowness=slowness).state for slowness in (0.0, 10.0)]
    np.testing.assert_array_equal(*(arch_of(state) for state in states))
    assert (states[0].weights["node_0"] != states[1].weights["node_0"]).any()


def test_first_step_is_a_clipped_step_of_plain_sgd_from_where_the_seed_starts():
    start = search(max_steps=0, options={"dropout": NO_DROPOUT}).state
    after = search(max_steps=1, options={"dropout": NO_DROPOUT}, slowness=0.0).state
    changes = jax.tree.map(lambda new, old: (new - old) / 20, after.weights, start.weights)
    norm = float(optax.global_norm(changes))
    assert norm == pytest.approx(0.25, rel=1e-3), (
        "the first gradient is larger than 0.25 here, and decay is tiny"
    )
    assert float(jnp.abs(arch_of(after) - arch_of(start)).max()) == pytest.approx(3e-3, rel=1e-2)


@pytest.mark.parametrize(
    "arch_gradient",
    [pytest.param(dnas.unrolled(), marks=pytest.mark.slow), dnas.finite_differences()],
    ids=["unrolled", "differences"],
)
def test_second_order_runs_and_moves_arch_otherwise_than_first_order(arch_gradient):
    made = functools.partial(recurrent_optimizer, arch_gradient=arch_gradient)
    second, first = (
        arch_of(search(max_steps=2, **options).state) for options in ({"optimizer": made}, {})
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
    # Than for words, of which there are thousands.
    slower = functools.partial(recurrent_optimizer, learning_rate=5.0)
    history = search(
        text=text, epochs=8, optimizer=slower, options={"dropout": NO_DROPOUT}, seed=1
    ).history
    assert history[0]["loss"] > 2 * history[-1]["loss"]


def test_a_rule_sees_a_text_as_it_sees_images_and_decides_on_it():
    seen = []

    def update(state, observed):
        seen.append((observed.accuracy(observed.mix), observed.sharpness()))
        kept = {"recurrent": np.arange(5)[None] > 2}
        return state, rules.Verdict(candidates=kept if observed.epoch == 1 else None)

    result = search(rule=rules.Rule(lambda space, epochs: (), update))
    assert len(seen) == 2 and all(0 <= accuracy <= 1 for accuracy, _ in seen)
    assert np.isfinite([sharpness for _, sharpness in seen]).all()
    first, last = (row["mix"]["recurrent"][0] for row in result.history)
    assert (first > 0).all() and not last[:3].any() and last[3:].all()


def test_the_accuracy_of_a_text_is_that_of_each_window_after_the_other():
    model = SPACE.supernet(channels=4, num_classes=6, norm=False)
    streams = tasks.text(TEXT, window=5).feeds(0, 3, 2)[1].data
    accuracy = tasks.text(TEXT, window=5).accuracy(model, streams)
    mix = {"recurrent": jnp.full((1, 5), 0.2)}
    variables = model.init(jax.random.key(0), dnas.Tokens(streams))
    variables = jax.tree.map(lambda array: 20 * array, variables)
    read = streams[:, :20]  # of 23 tokens four windows of five
    outputs, _ = model.apply(variables, mix, dnas.Tokens(read))
    right = np.asarray(outputs.logits).argmax(-1) == streams[:, 1:21]
    assert 0 < right.mean() < 1
    assert accuracy(variables, mix) == pytest.approx(right.mean())


@pytest.mark.parametrize("name", ["greedy", "best_sample", "eigenvalue", "skip_count"])
def test_rules_of_images_run_on_texts(name):
    made = {
        "greedy": lambda: rules.greedy(warm_up=1, interval=1),
        "best_sample": lambda: rules.best_sample(num_samples=3),
        "eigenvalue": lambda: rules.eigenvalue(from_epoch=1),
        "skip_count": lambda: rules.skip_count(op="identity", kind="recurrent"),
    }
    result = search(rule=made[name](), epochs=3)
    assert np.isfinite([row["loss"] for row in result.history]).all()


def test_a_target_on_a_text_moves_arch_to_cheaper_ops():
    """Two activations are dear and two cheap; the bound is what the cheap ones cost."""
    space = recurrent_space(num_nodes=2)
    parts = space.parts(channels=4, num_classes=6)
    costs = {"tanh": 9.0, "sigmoid": 9.0, "relu": 2.0, "identity": 2.0}
    rows = {
        ("latency", part): hw_loss.Cost(costs.get(part.op, 1.0), 0.0, 1)
        for part in parts.distinct()
    }
    table = hw_loss.CostTable("any", "test", 1, "any", "test", rows)
    cost = hw_loss.expected_cost(table, parts)
    constraint = hw_loss.Constraint((cost,), hw_loss.lagrangian([6.0], rate=1.0))
    free, bound = (
        search(space, constraint=own, epochs=3, optimizer=eager) for own in (None, constraint)
    )
    assert 6.0 < cost(bound.mix) < cost(free.mix) < 20.0
    assert {edge.op for edge in bound.genotype.cells["recurrent"]} <= {"relu", "identity"}
    assert bound.history[-1]["latency_weight"] > 0


def eager(epochs, steps_per_epoch):
    weights = bilevel.sgd(1.0, momentum=0.0, clip=0.25)
    return alternating(first_order(), weights, bilevel.arch_adam(0.1))


REFUSED = {
    "images": (dict(space=dnas.SPACES["darts"]), "read images and not tokens; take images"),
    "batch": (dict(batch_size=50), "lower the batch size or the window"),
    "epochs": (dict(epochs=0), "from 1 on, got 0"),
    "window": (dict(window=0), "at least one token"),
    "no batch": (dict(batch_size=0), "at least one piece"),
    "seed": (dict(seed=-1), "seed is a whole number from 0"),
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


def test_a_model_that_gives_no_states_back_is_refused():
    whole = SPACE.supernet(channels=4, num_classes=6)

    def apply(*args, **options):
        outputs, variables = whole.apply(*args, **options)
        return Outputs(outputs.logits), variables

    with pytest.raises(ValueError, match="gives no states back"):
        search(model=whole._replace(apply=apply))


def test_a_model_that_is_given_is_trained_on_a_text_as_on_images():
    """Two supernets, of which each reads with a state of its own, side by side in one array."""
    part = SPACE.supernet(channels=4, num_classes=6, dropout=NO_DROPOUT)

    def init(key, inputs):
        return jax.vmap(lambda key: part.init(key, inputs))(jax.random.split(key))

    def apply(variables, mix, inputs, **options):
        tokens, hidden = inputs
        if hidden is None:
            hidden = jnp.zeros((len(tokens), 8))

        def run(variables, hidden):
            return part.apply(variables, mix, dnas.Tokens(tokens, hidden), **options)[0]

        outputs = jax.vmap(run)(variables, jnp.stack(jnp.split(hidden, 2, axis=-1)))
        states = jnp.concatenate(list(outputs.hidden), axis=-1)
        return Outputs(outputs.logits.mean(0), hidden=states), variables

    result = search(model=Model(init, apply))
    assert result.state.carried[0].shape == (3, 8)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
