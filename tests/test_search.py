"""The step of a search is what the papers say, and every part of the family goes with it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear import LINEAR, arch_of, assert_same, batches, data_of, linear_supernet, small_search
from supernets import logits_of

import dnas
from dnas import arch_losses, bilevel, relax
from dnas.bilevel import alternating, first_order
from dnas.relax import Relaxation, softmax

TINY = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)


@pytest.mark.parametrize("space", [LINEAR, TINY], ids=["linear", "darts"])
def test_step_under_vmap_over_seeds_equals_one_seed_after_another(space):
    parts = small_search(space, num_cells=1)
    keys = jax.random.split(jax.random.key(0), 2)
    step = jax.jit(parts.step)
    states = jax.jit(jax.vmap(parts.init))(keys)
    together = jax.jit(jax.vmap(parts.step, in_axes=(0, None, None)))
    alone = [jax.jit(parts.init)(key) for key in keys]
    for number in range(2):
        states, metrics = together(states, *batches(number))
        pairs = [step(state, *batches(number)) for state in alone]
        alone = [state for state, _ in pairs]
        for seed in range(2):
            np.testing.assert_allclose(metrics["loss"][seed], pairs[seed][1]["loss"], rtol=1e-3)
    for seed in range(2):
        for kind in space.cells:
            np.testing.assert_allclose(
                states.arch[kind]["ops"][seed], alone[seed].arch[kind]["ops"], rtol=1e-3, atol=1e-4
            )


def test_step_under_jit_equals_step_without():
    parts = small_search(LINEAR)
    state = parts.init(jax.random.key(0))
    (plain, plain_metrics), (jitted, metrics) = (
        step(state, *batches()) for step in (parts.step, jax.jit(parts.step))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        data_of(plain),
        data_of(jitted),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), plain_metrics, metrics)


def test_arch_gradient_of_softmax_sums_to_zero_on_every_edge():
    """A constant added to a row of arch changes nothing."""
    descent = alternating(first_order(), optax.set_to_zero(), optax.sgd(1.0))
    parts = small_search(TINY, optimizer=descent)
    state = jax.jit(parts.init)(jax.random.key(0))
    after, _ = jax.jit(parts.step)(state, *batches())
    for kind in TINY.cells:
        gradient = state.arch[kind]["ops"] - after.arch[kind]["ops"]
        assert (jnp.abs(gradient).max(1) > 1e-5).all()
        np.testing.assert_allclose(gradient.sum(1), 0.0, atol=1e-6)


def cross_entropy(weights, mix, batch):
    logits = logits_of(linear_supernet(channels=2, num_cells=1, num_classes=3))(
        weights, mix, batch.inputs
    )
    logits = np.asarray(logits, np.float64)
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(logits)), np.asarray(batch.targets)]
    return (
        float((np.log(np.exp(logits).sum(1)) - chosen).mean()),
        (logits.argmax(1) == batch.targets).mean(),
    )


def test_metrics_are_loss_and_accuracy_of_both_batches_where_their_gradients_are_taken():
    parts = small_search(LINEAR)
    state = parts.init(jax.random.key(0))
    train, valid = batches()
    after, metrics = parts.step(state, train, valid)
    loss, accuracy = cross_entropy(state.weights, {"cell": jax.nn.softmax(arch_of(after))}, train)
    valid_loss, valid_accuracy = cross_entropy(
        state.weights, {"cell": jax.nn.softmax(arch_of(state))}, valid
    )
    found = [float(metrics[name]) for name in ("loss", "accuracy", "valid_loss", "valid_accuracy")]
    np.testing.assert_allclose(found, [loss, accuracy, valid_loss, valid_accuracy], rtol=1e-5)


def test_arch_factors_multiply_the_loss_of_arch_and_touch_nothing_else():
    optimizer = alternating(first_order(), optax.set_to_zero(), optax.sgd(1.0))
    steps = []
    for factors in (
        (),
        (lambda arch, mix: 3.0,),
        (lambda arch, mix: mix["cell"].sum(),),
        (lambda arch, mix: 0.0,),
    ):
        parts = small_search(LINEAR, optimizer=optimizer, arch_factors=factors)
        start = parts.init(jax.random.key(0))
        steps.append(arch_of(parts.step(start, *batches())[0]) - arch_of(start))
    np.testing.assert_allclose(steps[1], 3 * steps[0], rtol=1e-4, atol=1e-6)
    # Rows sum to one.
    np.testing.assert_allclose(
        steps[2], len(LINEAR.cells["cell"].edges) * steps[0], rtol=1e-3, atol=1e-6
    )
    assert not steps[3].any() and steps[0].any()


def test_arch_losses_add_up_and_touch_arch_only():
    def term(arch, mix):
        return (jnp.asarray([0.0, 1.0, 2.0]) * mix["cell"]).sum() + (arch["cell"]["ops"] ** 2).sum()

    descent = alternating(first_order(), optax.sgd(0.1), optax.set_to_zero())
    ascent = alternating(first_order(), optax.set_to_zero(), optax.sgd(1.0))
    for optimizer in (descent, ascent):
        states = []
        for losses in ((), (term,), (term, term)):
            parts = small_search(LINEAR, optimizer=optimizer, arch_losses=losses)
            states.append(parts.step(parts.init(jax.random.key(0)), *batches())[0])
        if optimizer is descent:
            assert_same(states[0].weights, states[2].weights)
        else:
            once, twice = (arch_of(state) - arch_of(states[0]) for state in states[1:])
            np.testing.assert_allclose(twice, 2 * once, rtol=1e-3, atol=1e-6)
            assert (once != 0).any()


def test_training_images_train_the_weights_and_validation_images_arch():
    parts = small_search(LINEAR)
    state = parts.init(jax.random.key(0))
    train, valid = batches()
    other, _ = batches(1)
    base = parts.step(state, train, valid)[0]
    assert_same(parts.step(state, other, valid)[0].arch, base.arch)
    assert (arch_of(parts.step(state, train, other)[0]) != arch_of(base)).any()
    assert (parts.step(state, other, valid)[0].weights != base.weights).any()


def test_relaxation_is_given_key_spec_and_step():
    """A relaxation that is noise around softmax: each step and each objective has its own."""
    seen = []

    def sample(key, arch, choices, step):
        assert choices is LINEAR.choices["cell"]
        seen.append((tuple(np.asarray(jax.random.key_data(key))), int(step)))
        return jax.nn.softmax(arch["ops"]) * jax.random.uniform(key, choices.shape)

    parts = small_search(LINEAR, relaxation=Relaxation(softmax().init, sample))
    state = parts.init(jax.random.key(0))
    for number in range(2):
        state, _ = parts.step(state, *batches(number))
    assert len({key for key, _ in seen}) == 4
    assert sorted(step for _, step in seen) == [0, 0, 1, 1]


SPEC = LINEAR.cells["cell"]


STEEP = optax.sgd(0.1)


def adam_for(relaxation):
    return relax.exponentiated_gradient(0.1) if relaxation == "simplex" else bilevel.arch_adam(0.1)


OPTIMIZERS = {
    "first_order": lambda arch: bilevel.alternating(bilevel.first_order(), STEEP, arch),
    "weights_first": lambda arch: bilevel.alternating(
        bilevel.first_order(), STEEP, arch, order="weights_first"
    ),
    "unrolled": lambda arch: bilevel.alternating(bilevel.unrolled(), STEEP, arch),
    "unrolled_2": lambda arch: bilevel.alternating(bilevel.unrolled(2), STEEP, arch),
    "finite_differences": lambda arch: bilevel.alternating(
        bilevel.finite_differences(), STEEP, arch
    ),
    "implicit": lambda arch: bilevel.alternating(bilevel.implicit(), STEEP, arch),
    "single_level": lambda arch: bilevel.single_level(STEEP, arch),
    "rarts": lambda arch: bilevel.rarts(STEEP, arch),
}


def step_with(relaxation, optimizer, **parts):
    made = small_search(LINEAR, relaxation=relaxation, optimizer=optimizer, **parts)
    state = jax.jit(made.init)(jax.random.key(0))
    return state, *jax.jit(made.step)(state, *batches())


@pytest.mark.parametrize("name", relax.RELAXATIONS)
def test_every_relaxation_goes_with_every_optimizer(name):
    for optimizer in OPTIMIZERS.values():
        made = small_search(
            LINEAR, relaxation=relax.RELAXATIONS[name](), optimizer=optimizer(adam_for(name))
        )
        state = jax.eval_shape(made.init, jax.random.key(0))
        after, metrics = jax.eval_shape(made.step, state, *batches())
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), state
        )
        assert {"loss", "accuracy", "valid_loss", "valid_accuracy"} <= set(metrics)


PAIRS = [(name, "first_order") for name in relax.RELAXATIONS] + [
    ("gumbel_hard", name) for name in OPTIMIZERS
]


@pytest.mark.parametrize(("name", "optimizer"), dict.fromkeys(PAIRS))
def test_a_relaxation_is_moved_by_an_optimizer(name, optimizer):
    before, after, metrics = step_with(
        relax.RELAXATIONS[name](), OPTIMIZERS[optimizer](adam_for(name))
    )
    assert all(
        jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((after.weights, after.arch, metrics))
    )
    moved = arch_of(before) != arch_of(after)
    assert moved.any() and (before.weights != after.weights).any()


@pytest.mark.parametrize("name", relax.RELAXATIONS)
def test_dropped_candidates_have_no_weight_and_what_is_decided_does_not_move(name):
    allowed = np.asarray([[False, True, True], [False, False, True]])
    made = small_search(
        LINEAR,
        relaxation=relax.RELAXATIONS[name](),
        optimizer=bilevel.alternating(
            bilevel.first_order(), STEEP, optax.sgd(0.1) if name != "simplex" else adam_for(name)
        ),
        candidates={"cell": allowed},
    )
    state = jax.jit(made.init)(jax.random.key(0))
    after, _ = jax.jit(made.step)(state, *batches())
    for one in (state, after):
        mix = made.mix(one)["cell"]
        assert not mix[~allowed].any() and mix[1, 2] > 0
    # A sigmoid of one op still has somewhere to go; the simplex is normalised.
    if name not in (
        "simplex",
        "sigmoid",
    ):
        before, moved = (arch_of(one) for one in (state, after))
        np.testing.assert_array_equal(before[1], moved[1])
        np.testing.assert_array_equal(before[0, 0], moved[0, 0])


def test_an_edge_without_candidates_gives_nothing():
    allowed = np.asarray([[True] * 3, [False] * 3])
    made = small_search(LINEAR, candidates={"cell": allowed})
    mix = made.mix(made.init(jax.random.key(0)))["cell"]
    assert not mix[1].any()
    np.testing.assert_allclose(mix[0].sum(), 1.0, rtol=1e-6)


def test_candidates_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\).*'linear'.*\(2, 3\)"):
        small_search(LINEAR, candidates={"cell": np.ones((2, 2), bool)})


@pytest.mark.parametrize("name", ["gumbel_softmax", "gumbel_hard", "dirichlet", "binary_gates"])
def test_what_a_selection_reads_does_not_depend_on_the_key(name):
    made = small_search(LINEAR, relaxation=relax.RELAXATIONS[name]())
    state = made.init(jax.random.key(0))
    again = state._replace(key=jax.random.key(7), step=jnp.asarray(3))
    assert_same(made.mix(state), made.mix(again))


def test_weights_of_arch_losses_are_numbers_or_schedules():
    def moved(losses):
        optimizer = bilevel.alternating(bilevel.first_order(), optax.set_to_zero(), optax.sgd(1.0))
        before, after, _ = step_with(relax.softmax(), optimizer, arch_losses=losses)
        return np.asarray(arch_of(after) - arch_of(before))

    term = arch_losses.beta_decay()
    once, plain = moved([term]), moved([])
    np.testing.assert_allclose(
        moved([(3.0, term)]) - plain, 3 * (once - plain), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        moved([(lambda step: step + 3.0, term)]), moved([(3.0, term)]), rtol=1e-6
    )


@pytest.mark.parametrize("make", [relax.random_perturbation, relax.adversarial_perturbation])
def test_a_perturbation_of_radius_zero_changes_no_bit_and_a_real_one_the_weights_alone(make):
    plain, none, real = (
        step_with(
            relax.softmax(),
            OPTIMIZERS["first_order"](bilevel.arch_adam(0.1)),
            perturbation=perturbation,
        )[1]
        for perturbation in (None, make(0.0), make(0.3))
    )
    assert_same(plain, none)
    assert_same(plain.arch, real.arch)
    assert (plain.weights != real.weights).any()


def test_the_terms_of_a_step_are_what_it_minimises():
    """Their sum is the outer objective, and the gradients are those of each by itself."""
    state = small_search(LINEAR).init(jax.random.key(0))
    train, valid = batches()
    factor, term = lambda arch, mix: mix["cell"].sum(), lambda arch, mix: arch["cell"]["ops"].sum()
    search = small_search(LINEAR, arch_factors=[factor], arch_losses=[(0.5, term)])
    found = search.terms(state, train, valid)
    assert [name.partition(" (")[0] for name in found] == [
        "the loss of the weights",
        "the loss of arch",
        "arch_factors[0]",
        "arch_losses[0]",
    ]
    values = [value for value, _ in found.values()]
    gradients = [gradient for _, gradient in found.values()]
    np.testing.assert_allclose(values[2:], [2.0, 0.5 * state.arch["cell"]["ops"].sum()], rtol=1e-5)
    np.testing.assert_allclose(gradients[2]["cell"]["ops"], 0.0, atol=1e-6)  # of a softmax
    np.testing.assert_allclose(gradients[3]["cell"]["ops"], 0.5)
    _, metrics = small_search(LINEAR).step(state, train, valid)
    np.testing.assert_allclose(values[1], metrics["valid_loss"], rtol=1e-5)
