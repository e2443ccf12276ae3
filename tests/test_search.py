"""A search is a function of its seed, stops and goes on without a trace, and refuses at once what
cannot work."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supernets import logits_of, supernet_of, weights_of

import dnas
from dnas.bilevel import alternating, darts_optimizer, first_order
from dnas.graph import CellSpec
from dnas.relax import Relaxation, softmax
from dnas.search import make_search, run_search
from dnas.space import LayerSpec, SearchSpace

TINY = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40) % 3


def linear_supernet(*, channels, num_cells, num_classes):
    """One linear map of the pixels for each op: sum over edges and ops of mix * (x @ weights)."""
    del channels, num_cells

    def init(key, images):
        return 0.1 * jax.random.normal(key, (2, 3, images[0].size, num_classes))

    def apply(weights, mix, images):
        return jnp.einsum("bd,eo,eodc->bc", images.reshape(len(images), -1), mix["cell"], weights)

    return supernet_of(init, apply)


def linear_layers(*, channels, num_cells, image_size, stem="cifar"):
    del num_cells, stem
    if image_size[0] % 2:
        raise ValueError(f"images of {image_size} cannot be halved; resize them")
    return (LayerSpec("cell", channels, 1, image_size),)


LINEAR = SearchSpace(
    "linear",
    {"cell": CellSpec(2, 1, edges=((0, 2), (1, 2)), ops=("none", "a", "b"), concat=(2,), keep=2)},
    linear_layers,
    linear_supernet,
    None,
)


def arch_of(state):
    return state.arch["cell"]["ops"]


def search(space=LINEAR, images=IMAGES, labels=LABELS, **changes):
    # 20 images a half and batches of 4: five steps an epoch.
    settings = dict(channels=2, num_cells=3, epochs=4, batch_size=4, report=lambda progress: None)
    return run_search(space, (images, labels), **settings | changes)


def data_of(state):
    return jax.tree.map(
        lambda leaf: np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ),
        state,
    )


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, data_of(one), data_of(other))


_PROGRAM = """
import hashlib, jax, numpy as np, dnas
space = dnas.darts_space(ops=("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"), num_nodes=1)
images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
quiet = dict(report=lambda progress: None, announce=lambda memory: None)
sizes = dict(channels=2, num_cells=1, epochs=4, batch_size=4, seed=SEED, **quiet)
augmentation = dnas.Augmentation((0.5,), (0.25,), cutout=2)
result = dnas.run_search(space, (images, np.arange(40) % 3), augmentation=augmentation, **sizes)
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


def small_search(space, image_shape=(8, 8, 1), num_cells=3, **parts):
    supernet = space.supernet(channels=2, num_cells=num_cells, num_classes=3)
    parts = {"optimizer": darts_optimizer(4, 5, arch_learning_rate=0.1)} | parts
    return make_search(space, supernet, image_shape=image_shape, **parts)


def batches(number=0):
    random = np.random.default_rng(number)
    images = random.normal(size=(2, 6, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 3, (2, 6))
    return tuple(
        dnas.Batch(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(images, labels, strict=True)
    )


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
        weights, mix, batch.images
    )
    logits = np.asarray(logits, np.float64)
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(logits)), np.asarray(batch.labels)]
    return (
        float((np.log(np.exp(logits).sum(1)) - chosen).mean()),
        (logits.argmax(1) == batch.labels).mean(),
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
    np.testing.assert_allclose(
        steps[2], len(LINEAR.cells["cell"].edges) * steps[0], rtol=1e-3, atol=1e-6
    )  # rows sum to one
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
    module, given = sys.modules["dnas.search"], []
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
        "20 images, a batch size of 21.*lower the batch size or give more images",
    ),
    "no batch": (dict(batch_size=0), "batch size of 0"),
    "no epoch": (dict(epochs=0), "0 epochs"),
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
