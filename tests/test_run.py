"""A search is a function of its seed, stops and goes on without a trace, and refuses at once what
cannot work."""

import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear import (
    IMAGES,
    LABELS,
    LINEAR,
    arch_of,
    assert_same,
    linear_supernet,
    search,
)
from supernets import logits_of, supernet_of, weights_of

import dnas
from dnas import bilevel, rules
from dnas.bilevel import darts_optimizer
from dnas.tasks import data

TINY = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)


_PROGRAM = """
import hashlib, jax, numpy as np, dnas
space = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"), num_nodes=1)
images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
sizes = dict(channels=2, num_cells=1, epochs=4, batch_size=4, seed=SEED, hooks=dnas.QUIET)
augmentation = dnas.Augmentation((0.5,), (0.25,), cutout=2)
task = dnas.tasks.images(images, np.arange(40) % 3, augmentation=augmentation)
result = dnas.run_search(space, task, **sizes)
assert result.state.step == 20
trees = result.state.arch, result.state.weights
hashes = [hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for tree in trees
          for leaf in jax.tree.leaves(tree)]
rows = [(row["loss"], row["valid_loss"], row["accuracy"]) for row in result.history]
print(hashes, rows, result.genotype.to_json())
"""


def run_program(seed):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-c", _PROGRAM.replace("SEED", str(seed))]
    done = subprocess.run(
        program, capture_output=True, text=True, env=environment, check=True, timeout=300
    )
    return done.stdout


@pytest.mark.slow
def test_same_seed_gives_the_same_bits_in_two_processes():
    first = run_program(3)
    assert len(first) > 500
    assert run_program(3) == first


def test_another_seed_gives_another_search():
    one, again, other = search(seed=1), search(seed=1), search(seed=2)
    assert_same(one.state, again.state)
    assert one.history[-1]["loss"] == again.history[-1]["loss"] != other.history[-1]["loss"]
    assert (arch_of(one.state) != arch_of(other.state)).any()


AUGMENTATION = dnas.Augmentation((0.5,), (0.25,), crop_padding=2, cutout=2)


@functools.cache
def uninterrupted():
    return search(augmentation=AUGMENTATION)


@pytest.mark.parametrize("stop", [1, 4, 5, 12, 20])
def test_resumed_search_equals_the_uninterrupted_one(stop):
    whole = uninterrupted()
    part = search(augmentation=AUGMENTATION, max_steps=stop)
    assert int(part.state.step) == stop
    resumed = search(augmentation=AUGMENTATION, resume=lambda state: part.state)
    assert_same(resumed.state, whole.state)
    assert resumed.genotype == whole.genotype
    jax.tree.map(np.testing.assert_array_equal, resumed.mix, whole.mix)


def test_resumed_search_of_the_darts_space_equals_the_uninterrupted_one():
    whole = search(TINY, num_cells=1, epochs=2)
    part = search(TINY, num_cells=1, epochs=2, max_steps=7)
    assert_same(
        search(TINY, num_cells=1, epochs=2, resume=lambda state: part.state).state, whole.state
    )


def test_resume_is_given_the_initial_state():
    given = []
    search(seed=5, max_steps=0, resume=lambda state: given.append(state) or state)
    assert int(given[0].step) == 0
    assert_same(given[0], search(seed=5, max_steps=0).state)


def test_step_is_compiled_once(monkeypatch):
    traces, after_each_call = [], []

    def counted(*args, **options):
        traces.append(1)
        return supernet.apply(*args, **options)

    supernet = linear_supernet(channels=2, num_cells=3, num_classes=3)
    space = LINEAR._replace(supernet=lambda **sizes: supernet._replace(apply=counted))
    monkeypatch.setattr("dnas.running.loop._SECONDS", 1e9)
    search(space, report=lambda progress: after_each_call.append(len(traces)))
    assert len(after_each_call) > 4 and len(set(after_each_call)) == 1


def test_rows_hold_mix_and_genotype_of_the_state():
    reports = []
    result = search(report=reports.append)
    rows = [progress.row for progress in reports if progress.row]
    assert rows == result.history and [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for progress in reports:
        if progress.row:
            mix = np.asarray(jax.nn.softmax(arch_of(progress.state)))
            np.testing.assert_allclose(progress.row["mix"]["cell"], mix, rtol=1e-6)
            assert progress.row["genotype"] == dnas.top_edges()(LINEAR, progress.row["mix"])
    assert result.genotype == rows[-1]["genotype"]
    assert_same(result.state, reports[-1].state)


def test_two_halves_of_all_images_are_kept_as_bytes(monkeypatch):
    module, given = sys.modules["dnas.run"], []
    original = module.run_steps
    monkeypatch.setattr(
        module, "run_steps", lambda *args, **kw: given.append(args[2]) or original(*args, **kw)
    )
    search()
    train, valid = given[0]
    assert train.images.dtype == valid.images.dtype == jnp.uint8
    both = np.concatenate([train.images, valid.images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in IMAGES)


def test_search_prefers_the_op_that_helps():
    """Of two ops one cannot pass any image on: its weights count for nothing."""

    def supernet(**sizes):
        whole = linear_supernet(**sizes)
        useful = jnp.asarray([0.0, 0.0, 1.0])
        return supernet_of(
            # so small that the start has no say
            lambda key, images: 0.01 * weights_of(whole)(key, images),
            lambda weights, mix, images: logits_of(whole)(
                weights, {"cell": mix["cell"] * useful}, images
            ),
        )

    images = np.where((LABELS == 0)[:, None, None, None], 250, 5).astype(np.uint8) + IMAGES // 64
    result = search(
        LINEAR._replace(supernet=supernet),
        images,
        (LABELS == 0).astype(int),
        epochs=10,
        optimizer=lambda *sizes: darts_optimizer(
            *sizes, learning_rate=2e-3, arch_learning_rate=0.1
        ),
    )
    assert {edge.op for edge in result.genotype.cells["cell"]} == {"b"}
    assert result.history[-1]["valid_accuracy"] > 0.9


def broken(**sizes):
    raise AssertionError("work has started")


REFUSED = {
    "float images": (dict(images=IMAGES / 255.0), "uint8.*0..255"),
    "images without channels": (dict(images=IMAGES[..., 0]), "last axis of 1"),
    "float labels": (dict(labels=LABELS * 1.0), "whole numbers"),
    "labels of another length": (dict(labels=LABELS[:7]), "40 whole numbers"),
    "negative labels": (dict(labels=LABELS - 1), "number the classes from 0"),
    "labels above num_classes": (dict(num_classes=2), r"0\.\.1, got 0\.\.2"),
    "too few images": (
        dict(batch_size=21),
        "20 images and a batch size of 21.*lower the batch size or give more images",
    ),
    "no batch": (dict(batch_size=0), "batch size of 0"),
    "no epoch": (dict(epochs=0), "epochs is a whole number from 1 on, got 0"),
    "an odd size": (dict(images=IMAGES[:, :7, :7]), "7.*7.*cannot be halved.*resize"),
    "an augmentation for colours": (
        dict(augmentation=dnas.Augmentation()),
        "mean.*3 channels.*have 1",
    ),
    "a negative crop": (
        dict(augmentation=dnas.Augmentation((0.5,), (0.5,), crop_padding=-1)),
        "crop_padding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("space", [LINEAR, TINY], ids=["linear", "darts"])
def test_what_cannot_work_is_refused_before_any_work(name, space):
    changes, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        search(space._replace(supernet=broken), **changes)


@pytest.mark.parametrize("side", [6, 10, 2])
def test_size_that_cannot_be_halved_twice_is_refused_with_what_to_do(side):
    images = np.zeros((40, side, side, 1), np.uint8)
    with pytest.raises(ValueError, match=r"halved 2 times.*multiples of 4"):
        search(TINY._replace(supernet=broken), images)


@pytest.mark.parametrize("changes", [dict(num_cells=0), dict(channels=0)])
def test_network_without_cells_or_channels_is_refused(changes):
    with pytest.raises(ValueError, match="at least one cell and one channel"):
        search(TINY._replace(supernet=broken), **changes)


def test_loss_that_diverges_ends_the_search():
    with pytest.raises(FloatingPointError, match="diverged"):
        search(optimizer=lambda *sizes: darts_optimizer(*sizes, learning_rate=1e30, clip=1e30))


def test_one_level_trains_both_on_all_images():
    def optimizer(*sizes):
        return bilevel.single_level(optax.sgd(0.1), bilevel.arch_adam(0.1), inner_weight=0.0)

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
def uninterrupted_with(rule):
    return search(rule=rule, epochs=6)


RULE = rules.chain(rules.ranking(patience=3), rules.greedy(warm_up=1, interval=1))


@pytest.mark.parametrize("stop", [4, 10, 12])
def test_a_resumed_search_with_a_rule_equals_the_uninterrupted_one(stop):
    rule, whole = RULE, uninterrupted_with(RULE)
    part = search(rule=rule, epochs=6, max_steps=stop)
    resumed = search(rule=rule, epochs=6, resume=lambda state: part.state)
    assert_same(resumed.state, whole.state)
    assert resumed.genotype == whole.genotype


def test_a_rule_sees_accuracy_and_sharpness_of_the_supernet():
    seen = []

    def update(state, observed):
        accuracies = [observed.accuracy(observed.mix, batches=count) for count in (None, 2)]
        seen.append((*accuracies, observed.sharpness(), observed))
        return state, rules.Verdict()

    states = []
    plain = dnas.plain_augmentation(IMAGES)
    search(
        epochs=1,
        rule=rules.Rule(lambda *sizes: (), update),
        report=lambda progress: states.append(progress.state),
    )
    state = states[-1]
    accuracy, first_two, sharpness, observed = seen[0]
    valid = data.split_half(data.Data(IMAGES, LABELS), 0)[1]
    images = data.normalize(jnp.asarray(valid.images), plain)
    last = data.independent_batches(0, 0, 20, 4, 5)[-1]  # what arch has learnt from just now
    supernet = linear_supernet(channels=2, num_cells=3, num_classes=3)
    mix = {"cell": jnp.asarray(observed.mix["cell"])}
    found = logits_of(supernet)(state.weights, mix, images).argmax(-1)
    right = np.asarray(found) == valid.labels
    assert accuracy == pytest.approx(np.mean(right))
    assert first_two == pytest.approx(np.mean(right[:8]))  # two batches of four

    def loss(flat):
        mix = {"cell": jax.nn.softmax(flat.reshape(2, 3))}
        logits = logits_of(supernet)(state.weights, mix, images[last])
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.asarray(valid.labels[last])
        ).mean()

    dense = np.linalg.eigvalsh(jax.jit(jax.hessian(loss))(arch_of(state).ravel()))
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


def test_a_model_that_is_given_is_trained_as_it_is():
    """An ensemble of two supernets, of which each has weights of its own."""
    part = linear_supernet(channels=2, num_cells=3, num_classes=3)

    def init(key, images):
        return jax.vmap(lambda key: weights_of(part)(key, images))(jax.random.split(key))

    def mean(weights, mix, images):
        return jax.vmap(lambda own: logits_of(part)(own, mix, images))(weights).mean(0)

    result = search(LINEAR._replace(supernet=broken), model=supernet_of(init, mean))
    assert result.state.weights.shape == (2, 2, 3, 64, 3)
    assert (result.state.weights[0] != result.state.weights[1]).any()
    alone = search()
    assert result.history[-1]["loss"] != alone.history[-1]["loss"]


def test_a_model_that_wraps_a_supernet_without_a_change_gives_its_bits():
    whole, seen = TINY.supernet(channels=2, num_cells=1, num_classes=3), []

    def apply(variables, mix, inputs, **options):
        seen.append(options.get("train", False))
        return whole.apply(variables, mix, inputs, **options)

    settings = dict(channels=2, num_cells=1, max_steps=2)
    given = search(TINY, model=whole._replace(apply=apply), **settings)
    assert any(seen)
    assert_same(given.state, search(TINY, **settings).state)


def test_a_model_that_keeps_averages_is_refused():
    network = dnas.PUBLISHED["DARTS_V2"]
    model = dnas.SPACES["darts"].network(network, channels=2, num_cells=1, num_classes=3)
    with pytest.raises(ValueError, match="keeps .*batch_stats.*weights only"):
        search(TINY, model=model)


def test_what_a_model_draws_has_a_key_of_each_step_and_objective():
    keys = []
    part = linear_supernet(channels=2, num_cells=3, num_classes=3)

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        if train:
            note = lambda data: keys.append(tuple(data.tolist()))  # noqa: E731
            jax.debug.callback(note, jax.random.key_data(key))
        return part.apply(variables, mix, inputs)

    search(model=part._replace(apply=apply), max_steps=3)
    jax.effects_barrier()
    assert len(keys) == len(set(keys)) == 6  # of weights and of arch


def test_a_task_of_another_kind_of_inputs_is_refused():
    text = dnas.tasks.text(dnas.read_text("to be or not to be " * 40), window=3)
    with pytest.raises(ValueError, match="'linear' read images and not tokens"):
        dnas.run_search(LINEAR, text)


def infinite(arch, mix):
    return jnp.sqrt(arch["cell"]["ops"] - arch["cell"]["ops"]).sum()  # 0, its gradient infinite


def nowhere(arch, mix):
    return jnp.sqrt(-mix["cell"].sum())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"arch_losses": [nowhere]}, r"arch_losses\[0\] \(nowhere\) is nan.*that term"),
        ({"arch_losses": [infinite]}, r"gradient of arch_losses\[0\] \(infinite\).*that term"),
        ({"arch_factors": [nowhere]}, r"arch_factors\[0\] \(nowhere\) is nan.*that term"),
    ],
)
def test_a_term_that_is_not_finite_is_named_and_not_the_learning_rate(parts, message):
    with pytest.raises(FloatingPointError, match=message) as error:
        search(**parts)
    assert "learning rate" not in str(error.value)


def test_an_op_that_is_not_finite_is_named_and_not_the_learning_rate(monkeypatch):
    class Root(nn.Module):
        channels: int
        stride: int
        norms: dnas.cells.Norms

        @nn.compact
        def __call__(self, x):
            return jnp.sqrt(x[:, :: self.stride, :: self.stride])

    monkeypatch.setitem(dnas.OPS, "root", Root)
    space = dnas.darts_space(ops=("none", "skip_connect", "root"), num_nodes=1)
    with pytest.raises(
        FloatingPointError, match="at step 1.*op 'root' is to blame.*finite"
    ) as error:
        search(space, num_cells=1)
    assert "learning rate" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(seed=2**32), "seed is a whole number from 0 to 4,294,967,295"),
        (dict(seed=-1), "seed is a whole number from 0 to"),
        (dict(max_steps=-1), "max_steps is a whole number from 0 to"),
        (dict(epochs=2**40), "steps is a whole number from 0 to 2,147,483,647"),
        (dict(epochs=1.5), "run_search: epochs is a whole number or None, not 1.5"),
        (dict(channels=4.0), "run_search: channels is a whole number or None, not 4.0"),
        (dict(relaxation=3), "Method: relaxation is a Relaxation, not 3"),
        (dict(options=0), "Method: options is a mapping"),
    ],
)
def test_numbers_and_types_are_looked_at_before_any_work(changes, message):
    with pytest.raises(ValueError, match=message):
        search(LINEAR._replace(supernet=broken), **changes)


def test_whole_numbers_may_be_of_any_type():
    given = search(epochs=np.int64(1), batch_size=np.uint8(4), seed=np.int32(3))
    assert_same(given.state, search(epochs=1, seed=3).state)


@pytest.mark.parametrize("num_cells", [10**9, 1001])
def test_more_cells_than_a_network_may_have_are_refused_at_once(num_cells):
    with pytest.raises(ValueError, match="num_cells is a whole number from 1 to 1,000"):
        search(TINY, num_cells=num_cells)


def test_weights_beyond_the_memory_of_the_machine_are_refused_before_they_are_made():
    with pytest.raises(MemoryError, match=r"goes into it.*MB\. Lower the batch size, the channels"):
        search(TINY, channels=2**18, num_cells=1)
