"""Retraining is the recipe of DARTS; a score counts every image, and saved variables score what
they scored."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear import assert_same

import dnas
from dnas import Hooks, tasks
from dnas.bilevel import sgd
from dnas.model import Model, Outputs
from dnas.retrain import final_sgd, retrain
from dnas.tasks.data import normalize, plain_augmentation
from dnas.tasks.images import make_evaluation

RANDOM = np.random.default_rng(0)
IMAGES, LABELS = RANDOM.integers(0, 256, (20, 8, 8, 1), np.uint8), np.arange(20) % 2
TEST = RANDOM.integers(0, 256, (11, 8, 8, 1), np.uint8), RANDOM.integers(0, 2, 11)


def linear_network(auxiliary=False, num_classes=2):
    """A linear map with a running count and the last drop path rate; the auxiliary head is another
    linear map."""

    def init(key, images):
        main, other = 0.1 * jax.random.normal(key, (2, images[0].size, num_classes))
        averages = {"count": jnp.zeros(()), "rate": jnp.zeros(()) - 1.0}
        return {"params": {"main": main, "other": other}, "batch_stats": averages}

    def apply(variables, mix, images, *, key=None, train=False, drop_path=0.0):
        assert mix == {}
        flat = images.reshape(len(images), -1)
        logits = flat @ variables["params"]["main"]
        if not train:
            return Outputs(logits), variables
        averages = {
            "count": variables["batch_stats"]["count"] + 1,
            "rate": jnp.asarray(drop_path, jnp.float32),
        }
        other = logits * 0.5 + flat @ variables["params"]["other"]
        outputs = Outputs(logits, other if auxiliary else None)
        return outputs, {**variables, "batch_stats": averages}

    return Model(init, apply)


def trained(network=None, train=(IMAGES, LABELS), test=TEST, **changes):
    """`retrain`, with what a task and hooks are made of among the changes."""
    # Batches of 4: five steps an epoch.
    settings = dict(epochs=3, batch_size=4, report=lambda progress: None) | changes

    def taken(names):
        return {name: settings.pop(name) for name in names if name in settings}

    task = tasks.images(*train, test=test, **taken(("augmentation",)))
    network = linear_network() if network is None else network
    return retrain(network, task, hooks=Hooks(**taken(Hooks._fields)), **settings)


@functools.cache
def darts_network():
    space = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)
    edges = [(0, 2, "skip_connect"), (1, 2, "max_pool_3x3")]
    genotype = dnas.Genotype("darts", {"normal": edges, "reduce": edges})
    return space.network(genotype, channels=2, num_cells=1, num_classes=2)


def separable(size, seed):
    """Bright images and dark ones."""
    random = np.random.default_rng(seed)
    labels = np.arange(size) % 2
    return (random.integers(0, 60, (size, 8, 8, 1)) + 190 * labels[:, None, None, None]).astype(
        np.uint8
    ), labels


@functools.cache
def trained_darts():
    """One run on images that are easy to tell apart, with the state after each call."""
    reports = []
    result = trained(
        darts_network(), separable(20, 0), separable(14, 1), epochs=8, report=reports.append
    )
    return result, reports


def plain_accuracy(network, variables, data, augmentation):
    """One image at a time."""
    correct = 0
    for image, label in zip(*data, strict=True):
        pixels = normalize(jnp.asarray(image[None]), augmentation)
        outputs, _ = network.apply(variables, {}, pixels)
        correct += int(np.argmax(outputs.logits[0])) == label
    return correct / len(data[1])


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 11, 256])
def test_evaluation_counts_every_image_of_every_batch(batch_size):
    network, augmentation = linear_network(), plain_augmentation(IMAGES)
    evaluate = make_evaluation(network, TEST, augmentation, batch_size=batch_size)
    for seed in range(4):
        variables = network.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))
        assert evaluate(variables) == plain_accuracy(network, variables, TEST, augmentation)


def test_padding_of_the_last_batch_is_not_counted():
    """Only the first image is right; it is what fills the last batch."""
    network = linear_network()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    pixels = normalize(jnp.asarray(TEST[0]), plain_augmentation(IMAGES))
    labels = np.array(network.apply(variables, {}, pixels)[0].logits.argmax(-1))
    labels[1:] = 1 - labels[1:]
    evaluate = make_evaluation(network, (TEST[0], labels), plain_augmentation(IMAGES), batch_size=4)
    assert evaluate(variables) == 1 / 11


def test_score_is_that_of_the_last_variables_with_the_statistics_of_the_training_images():
    result = trained()
    assert result.test_accuracy == plain_accuracy(
        linear_network(), result.variables, TEST, plain_augmentation(IMAGES)
    )
    assert result.history[-1]["test_accuracy"] == result.test_accuracy
    assert_same(result.variables, result.state.variables)


def test_saved_variables_score_what_they_scored():
    result, _ = trained_darts()
    saved = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, result.variables)))
    evaluate = make_evaluation(
        darts_network(), separable(14, 1), plain_augmentation(separable(20, 0)[0])
    )
    assert evaluate(saved) == evaluate(result.variables) == result.test_accuracy


def test_score_of_the_darts_network_is_that_of_one_image_at_a_time():
    result, _ = trained_darts()
    augmentation = plain_augmentation(separable(20, 0)[0])
    network = Model(None, jax.jit(darts_network().apply))
    images, labels = separable(14, 1)
    # Beside bright ones these would not be told apart as they are by the running averages.
    dark = (
        images // 3,
        labels,
    )
    for data in (dark, TEST):
        expected = plain_accuracy(network, result.variables, data, augmentation)
        assert make_evaluation(darts_network(), data, augmentation)(result.variables) == expected
    assert make_evaluation(darts_network(), dark, augmentation)(result.variables) < 1.0


def test_accuracy_on_images_that_are_easy_to_tell_apart_rises_to_one():
    result, reports = trained_darts()
    assert result.test_accuracy == 1.0
    assert reports[0].metrics["loss"][0] > 2 * result.history[-1]["loss"]


def test_running_statistics_move_in_training():
    _, reports = trained_darts()
    first, last = (
        reports[0].state.variables["batch_stats"],
        reports[-1].state.variables["batch_stats"],
    )
    assert all(
        (a != b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True)
    )


def test_running_statistics_are_used_in_evaluation_and_not_in_training():
    variables = trained_darts()[0].variables
    shifted = {
        **variables,
        "batch_stats": jax.tree.map(lambda leaf: leaf + 1.0, variables["batch_stats"]),
    }
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    network = darts_network()
    evaluate = jax.jit(lambda variables, images: network.apply(variables, {}, images)[0].logits)
    train = jax.jit(lambda *args: network.apply(args[0], {}, args[1], train=True)[0].logits)
    logits = evaluate(variables, images)
    assert (evaluate(shifted, images) != logits).all()
    np.testing.assert_allclose(train(shifted, images), train(variables, images), rtol=1e-5)
    alone = evaluate(variables, images[:1])  # no image has a part in the score of another
    np.testing.assert_allclose(alone, logits[:1], rtol=1e-4, atol=1e-6)


def test_averages_of_every_step_are_kept():
    assert int(trained().variables["batch_stats"]["count"]) == 15


def rates(monkeypatch, **changes):
    """The drop path rate of each step."""
    monkeypatch.setattr("dnas.running.loop._MAX_STEPS", 1)
    found = []
    trained(
        report=lambda p: found.append(float(p.state.variables["batch_stats"]["rate"])), **changes
    )
    return found


def test_drop_path_rate_grows_from_zero_once_an_epoch(monkeypatch):
    expected = np.repeat([0.3 * epoch / 4 for epoch in range(4)], 5)
    np.testing.assert_allclose(rates(monkeypatch, epochs=4, drop_path=0.3), expected, rtol=1e-6)


def test_drop_path_rate_goes_on_after_a_resume(monkeypatch):
    part = trained(epochs=4, max_steps=12)
    found = rates(monkeypatch, epochs=4, drop_path=0.3, resume=lambda state: part.state)
    np.testing.assert_allclose(found, np.repeat([0.15, 0.225], [3, 5]), rtol=1e-6)


def test_no_drop_path_is_no_drop_path(monkeypatch):
    assert rates(monkeypatch, drop_path=0.0) == [0.0] * 15


@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.4])
def test_auxiliary_loss_counts_by_its_weight(auxiliary_weight):
    def undecayed(epochs, steps):
        return sgd(0.01, weight_decay=0.0)

    without = trained(optimizer=undecayed)
    found = trained(
        linear_network(auxiliary=True), optimizer=undecayed, auxiliary_weight=auxiliary_weight
    )
    start = trained(max_steps=0).variables["params"]
    if auxiliary_weight == 0.0:
        np.testing.assert_allclose(
            found.variables["params"]["main"], without.variables["params"]["main"], rtol=1e-5
        )
        np.testing.assert_array_equal(found.variables["params"]["other"], start["other"])
    else:
        assert (found.variables["params"]["other"] != start["other"]).any()
        assert (found.variables["params"]["main"] != without.variables["params"]["main"]).any()
    assert set(found.variables) == {"params", "batch_stats"}


def test_first_step_is_the_gradient_of_loss_plus_weighted_auxiliary_loss():
    network, augmentation = linear_network(auxiliary=True), plain_augmentation(IMAGES)
    plain = dict(
        batch_size=20, epochs=1, optimizer=lambda *sizes: optax.sgd(0.1), auxiliary_weight=0.4
    )
    after = trained(network, **plain).variables["params"]
    variables = trained(network, max_steps=0, **plain).variables
    # All images are in the one batch: their order is no matter.
    pixels = normalize(jnp.asarray(IMAGES), augmentation)

    def loss(params):
        outputs, _ = network.apply({**variables, "params": params}, {}, pixels, train=True)
        losses = [
            optax.softmax_cross_entropy(x, jax.nn.one_hot(LABELS, 2)).mean()
            for x in (outputs.logits, outputs.auxiliary)
        ]
        return losses[0] + 0.4 * losses[1]

    expected = jax.tree.map(
        lambda p, g: p - 0.1 * g, variables["params"], jax.jit(jax.grad(loss))(variables["params"])
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after, expected
    )


@pytest.mark.parametrize(
    "schedule, rate_at",
    [
        ("epoch", lambda step: 0.025 * (1 + np.cos(np.pi * (step // 2) / 6)) / 2),
        ("step", lambda step: 0.025 * (1 + np.cos(np.pi * step / 12)) / 2),
        ("exponential", lambda step: 0.025 * 0.97 ** (step // 2)),
    ],
)
def test_final_sgd_is_sgd_whose_rate_falls_as_the_schedule_says(schedule, rate_at):
    params, gradient = jnp.asarray([1.0, -2.0]), jnp.asarray([0.3, 0.1])
    optimizer = final_sgd(6, 2, schedule=schedule)
    state, buffer = optimizer.init(params), 0.0
    for step in range(12):
        buffer = 0.9 * buffer + np.asarray(gradient) + 3e-4 * np.asarray(params)
        updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(updates, -rate_at(step) * buffer, rtol=1e-5)
        params = optax.apply_updates(params, updates)


AUGMENTATION = dnas.Augmentation((0.5,), (0.25,), crop_padding=2, cutout=2)


@functools.cache
def uninterrupted():
    return trained(augmentation=AUGMENTATION)


@pytest.mark.parametrize("stop", [1, 5, 7, 15])
def test_resumed_training_equals_the_uninterrupted_one(stop):
    whole = uninterrupted()
    part = trained(augmentation=AUGMENTATION, max_steps=stop)
    assert int(part.state.step) == stop
    resumed = trained(augmentation=AUGMENTATION, resume=lambda state: part.state)
    assert_same(resumed.state, whole.state)
    assert resumed.test_accuracy == whole.test_accuracy


def test_training_is_a_function_of_its_seed():
    one, again, other = trained(seed=1), trained(seed=1), trained(seed=2)
    assert_same(one.state, again.state)
    assert one.history == again.history
    assert (one.variables["params"]["main"] != other.variables["params"]["main"]).any()


def test_steps_are_augmented_and_test_images_are_not():
    cut = dnas.Augmentation((0.5,), (0.25,), crop_padding=0, flip=False, cutout=30)
    plain = cut._replace(cutout=0)
    assert (
        trained(augmentation=cut).history[-1]["loss"]
        != trained(augmentation=plain).history[-1]["loss"]
    )
    result = trained(augmentation=cut)
    assert result.test_accuracy == plain_accuracy(linear_network(), result.variables, TEST, plain)


@pytest.mark.parametrize("every, expected", [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_score_is_taken_every_so_many_epochs_and_at_the_end(every, expected):
    result = trained(epochs=5, evaluate_every=every)
    assert [row["epoch"] for row in result.history if "test_accuracy" in row] == expected
    assert result.test_accuracy == result.history[-1]["test_accuracy"]


def test_run_that_is_over_is_scored_again():
    done = trained()
    again = trained(resume=lambda state: done.state)
    assert again.history == [] and again.test_accuracy == done.test_accuracy


def test_early_end_is_scored():
    result = trained(max_steps=7, evaluate_every=3)
    assert [row["step"] for row in result.history] == [5, 7]
    assert result.test_accuracy == result.history[-1]["test_accuracy"]


def broken(*args):
    raise AssertionError("work has started")


REFUSED = {
    "float images": (dict(train=(IMAGES / 255.0, LABELS)), "uint8"),
    "float test images": (dict(test=(TEST[0] / 255.0, TEST[1])), "uint8"),
    "labels of another length": (dict(test=(TEST[0], TEST[1][:3])), "11 whole numbers"),
    "test images of another size": (
        dict(test=(TEST[0][:, :6], TEST[1])),
        r"\(8, 8, 1\).*\(6, 8, 1\).*agree",
    ),
    "too few images": (dict(batch_size=21), "20 images.*21.*lower the batch size"),
    "no epoch": (dict(epochs=0), "epochs is a whole number from 1 on, got 0"),
    "drop path one": (dict(drop_path=1.0), "drop_path.*1.0"),
    "drop path below zero": (dict(drop_path=-0.1), "drop_path.*-0.1"),
    "never scored": (dict(evaluate_every=0), "evaluate_every.*0"),
    "an augmentation for colours": (dict(augmentation=dnas.Augmentation()), "3 channels.*have 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_any_work(name):
    changes, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        trained(Model(broken, broken), **changes)


@pytest.mark.parametrize("which", ["train", "test"])
def test_labels_beyond_the_classes_of_the_network_are_refused(which):
    data = {"train": (IMAGES, LABELS), "test": TEST}
    data[which] = (data[which][0], np.arange(len(data[which][0])) % 5)
    with pytest.raises(ValueError, match=r"labels go up to 4.*2 classes.*num_classes=5"):
        trained(**data)


def test_images_that_the_network_cannot_halve_are_refused():
    with pytest.raises(ValueError, match="7x7 cannot be halved"):
        trained(darts_network(), (IMAGES[:, :7, :7], LABELS), (TEST[0][:, :7, :7], TEST[1]))


def test_loss_that_diverges_ends_the_training():
    with pytest.raises(FloatingPointError, match="diverged"):
        trained(optimizer=lambda *sizes: sgd(1e30, clip=1e30))


def test_step_is_compiled_once(monkeypatch):
    monkeypatch.setattr("dnas.running.loop._SECONDS", 1e9)
    traces, after_each_call = [], []
    network = linear_network()

    def counted(*args, train=False, **options):
        traces.extend([1] * train)
        return network.apply(*args, train=train, **options)

    trained(
        network._replace(apply=counted), report=lambda progress: after_each_call.append(len(traces))
    )
    assert len(after_each_call) > 3 and len(set(after_each_call)) == 1


def test_a_pair_is_the_task_of_its_images():
    settings = dict(epochs=1, batch_size=4, hooks=dnas.QUIET)
    given = retrain(linear_network(), (IMAGES, LABELS), TEST, **settings)
    task = tasks.images(IMAGES, LABELS, test=TEST)
    assert_same(given.state, retrain(linear_network(), task, **settings).state)
    assert given.scores == {"test_accuracy": given.test_accuracy}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (((IMAGES, LABELS), None), "has none; give test="),
        ((tasks.images(IMAGES, LABELS, test=TEST), TEST), "part of a task"),
    ],
)
def test_test_images_are_given_once(given, reason):
    with pytest.raises(ValueError, match=reason):
        retrain(Model(broken, broken), *given)


def test_weights_that_the_last_update_makes_nan_are_no_result():
    """No later step sees them: they are in no loss."""

    def optimizer(epochs, steps_per_epoch):
        def update(gradient, count, params=None):
            last = count == epochs * steps_per_epoch - 1
            scale = jnp.where(last, jnp.nan, -0.01)
            return jax.tree.map(lambda array: scale * array, gradient), count + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    with pytest.raises(FloatingPointError, match=r"params/main.* became nan at step 15: "):
        trained(optimizer=optimizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(epochs=1.5), "retrain: epochs is a whole number, not 1.5"),
        (dict(seed=2**32), "seed is a whole number from 0 to"),
        (dict(evaluate_every=0), "evaluate_every is a whole number from 1 on, got 0"),
        (dict(optimizer=3), "retrain: optimizer is a function, not 3"),
    ],
)
def test_wrong_types_and_numbers_are_refused_before_any_work(changes, message):
    with pytest.raises(ValueError, match=message):
        trained(Model(broken, broken), **changes)
