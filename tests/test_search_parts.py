"""Candidates, perturbations, rules between epochs and every part of the family inside a search."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supernets import logits_of, supernet_of, weights_of
from test_search import (
    IMAGES,
    LABELS,
    LINEAR,
    assert_same,
    batches,
    linear_supernet,
    search,
    small_search,
)

import dnas
from dnas import arch_losses, bilevel, relax, rules
from dnas.bilevel import darts_optimizer

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
    moved = before.arch["cell"]["ops"] != after.arch["cell"]["ops"]
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
    if name not in (
        "simplex",
        "sigmoid",
    ):  # a sigmoid of one op still has somewhere to go; the simplex is normalised
        before, moved = (one.arch["cell"]["ops"] for one in (state, after))
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
        return np.asarray(after.arch["cell"]["ops"] - before.arch["cell"]["ops"])

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


def test_one_level_trains_both_on_all_images():
    def optimizer(*sizes):
        return bilevel.single_level(STEEP, bilevel.arch_adam(0.1), inner_weight=0.0)

    result = search(single_level=True, epochs=1, optimizer=optimizer)
    assert int(result.state.step) == len(IMAGES) // 4
    assert "valid_loss" in result.history[0]


def at_epoch(number, **verdict):
    """A rule that decides once, and counts its calls in its state."""

    def update(state, observed):
        state = {"calls": state["calls"] + 1}
        return state, rules.Verdict(
            metrics={"calls": float(state["calls"])}, **verdict if observed.epoch == number else {}
        )

    return rules.Rule(lambda space, epochs: {"calls": np.zeros((), np.int64)}, update)


def test_a_rule_ends_the_search_and_names_the_mix_that_is_read():
    mix = {"cell": np.asarray([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], np.float32)}
    reports = []
    result = search(rule=at_epoch(2, stop=True, mix=mix), report=reports.append)
    assert int(result.state.step) == 10 and reports[-1].stopped and len(result.history) == 2
    assert result.genotype == dnas.top_edges()(LINEAR, mix) == result.history[-1]["genotype"]
    np.testing.assert_array_equal(result.mix["cell"], mix["cell"])
    assert [row["calls"] for row in result.history] == [1.0, 2.0]
    again = search(rule=at_epoch(2, stop=True, mix=mix), resume=lambda state: result.state)
    assert again.history == [] and again.genotype == result.genotype
    assert_same(again.state, result.state)


def test_what_a_rule_drops_stays_dropped_and_the_search_goes_on():
    allowed = {"cell": np.asarray([[False, True, False], [True, True, True]])}
    reports = []
    result = search(rule=at_epoch(2, candidates=allowed), report=reports.append)
    rows = [row["mix"]["cell"][0] for row in result.history]
    assert (rows[1] > 0).all() and (rows[2] == [0, 1, 0]).all() and (rows[3] == [0, 1, 0]).all()
    assert int(result.state.step) == 20


@functools.cache
def uninterrupted(rule):
    return search(rule=rule, epochs=6)


RULE = rules.chain(rules.ranking(patience=3), rules.greedy(warm_up=1, interval=1))


@pytest.mark.parametrize("stop", [4, 10, 12])
def test_a_resumed_search_with_a_rule_equals_the_uninterrupted_one(stop):
    rule, whole = RULE, uninterrupted(RULE)
    part = search(rule=rule, epochs=6, max_steps=stop)
    resumed = search(rule=rule, epochs=6, resume=lambda state: part.state)
    assert_same(resumed.state, whole.state)
    assert resumed.genotype == whole.genotype


def test_a_rule_sees_accuracy_and_sharpness_of_the_supernet():
    seen = []

    def update(state, observed):
        seen.append((observed.accuracy(observed.mix), observed.sharpness(), observed))
        return state, rules.Verdict()

    states = []
    plain = dnas.plain_augmentation(IMAGES)
    search(
        epochs=1,
        rule=rules.Rule(lambda *sizes: (), update),
        report=lambda progress: states.append(progress.state),
    )
    state = states[-1]
    accuracy, sharpness, observed = seen[0]
    valid = dnas.tasks.data.split_half(dnas.tasks.data.Data(IMAGES, LABELS), 0)[1]
    images = dnas.tasks.data.normalize(jnp.asarray(valid.images), plain)
    supernet = linear_supernet(channels=2, num_cells=3, num_classes=3)
    mix = {"cell": jnp.asarray(observed.mix["cell"])}
    found = logits_of(supernet)(state.weights, mix, images).argmax(-1)
    assert accuracy == pytest.approx(np.mean(np.asarray(found) == valid.labels))

    def loss(flat):
        mix = {"cell": jax.nn.softmax(flat.reshape(2, 3))}
        logits = logits_of(supernet)(state.weights, mix, images[:4])
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.asarray(valid.labels[:4])
        ).mean()

    dense = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(state.arch["cell"]["ops"].ravel()))
    np.testing.assert_allclose(sharpness, dense[-1], rtol=1e-3)


def test_perturbation_keeps_a_planted_op_where_the_logits_prefer_another():
    """Op b sees the label, op a sees nothing; the logits say a."""
    images = np.where((LABELS == 0)[:, None, None, None], 250, 5).astype(np.uint8) + IMAGES // 64
    labels = (LABELS == 0).astype(int)
    rule = rules.perturbation(interval=1)

    def plant(state):
        weights = np.zeros(state.weights.shape, np.float32)
        weights[:, 2, :, 1] = 1.0
        weights[:, 2, :, 0] = -1.0
        arch = jnp.asarray([[0.0, 3.0, 0.0]] * 2)
        return state._replace(weights=jnp.asarray(weights), arch={"cell": {"ops": arch}})

    def still(*sizes):
        return bilevel.alternating(bilevel.first_order(), optax.set_to_zero(), optax.set_to_zero())

    def found(**parts):
        epochs = rules.perturbation_epochs(LINEAR, interval=1)
        result = search(
            LINEAR, images, labels, epochs=epochs, optimizer=still, resume=plant, **parts
        )
        return {edge.op for edge in result.genotype.cells["cell"]}

    assert found() == {"a"}
    assert "b" in found(rule=rule)  # on the other edge it has then nothing left to add


def test_the_best_sample_is_read_at_the_end():
    result = search(rule=rules.best_sample(num_samples=8), epochs=2)
    accuracy = result.history[-1]["sample_accuracy"]
    assert 0 <= accuracy <= 1 and "sample_accuracy" not in result.history[0]
    np.testing.assert_array_equal(
        result.mix["cell"], np.asarray(dnas.one_hot_mix(LINEAR, result.genotype)["cell"])
    )


SKIPS = LINEAR._replace(
    name="skips",
    cells={
        "normal": dnas.CellSpec(
            num_inputs=2,
            num_nodes=1,
            edges=((0, 2), (1, 2)),
            ops=("none", "skip_connect", "b"),
            concat=(2,),
            keep=2,
        )
    },
    layers=lambda **sizes: (dnas.LayerSpec("normal", 2, 1, sizes["image_size"]),),
    supernet=lambda **sizes: supernet_of(
        weights_of(linear_supernet(**sizes)),
        lambda weights, mix, images: logits_of(linear_supernet(**sizes))(
            weights, {"cell": mix["normal"]}, images
        ),
    ),
)
GUARDS = {
    "skip_count": rules.skip_count(from_epoch=1),
    "ranking": rules.ranking(patience=6),
    "eigenvalue": rules.eigenvalue(every=1, window=1, back=2, threshold=1.05, from_epoch=2),
}


def drifting(**parts):
    """A search whose outer loss draws every edge to its skip; the weights grow, and with them the
    curvature."""

    def start(state):
        return state._replace(arch={"normal": {"ops": jnp.asarray([[0.0, -0.5, 0.5]] * 2)}})

    return search(
        SKIPS,
        epochs=30,
        resume=start,
        optimizer=lambda *sizes: darts_optimizer(
            *sizes, learning_rate=1e-3, arch_learning_rate=0.02, arch_weight_decay=0.0
        ),
        arch_losses=[(5.0, lambda arch, mix: -mix["normal"][:, 1].sum())],
        **parts,
    )


def test_without_a_guard_a_search_drifts_to_skips():
    result = drifting()
    assert len(result.history) == 30 and result.genotype.count("skip_connect")["normal"] == 2


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_ends_a_search_that_drifts_to_skips_and_reads_the_genotype_before(name):
    result = drifting(rule=GUARDS[name])
    rows = result.history
    assert len(rows) < 30 and result.genotype == rows[-1]["genotype"]
    if name == "eigenvalue":  # what it returns is that of an epoch before the curvature grew
        assert any((row["mix"]["normal"] == result.mix["normal"]).all() for row in rows[:-1])
    elif name == "ranking":  # the order has been the same for so long that all are skips by then
        assert all(row["genotype"] == result.genotype for row in rows[-6:])
    else:
        assert (
            result.genotype == rows[0]["genotype"]
            and result.genotype.count("skip_connect")["normal"] == 0
        )
