"""Python objects of any kind where run_search, retrain, spaces and tasks are given something: what
does not fit is refused before anything is compiled for long."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import ARRAYS, FEWER, LEAVES, OBJECTS, arguments
from law import obeys
from linear import LINEAR

import dnas
from dnas import tasks

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40) % 3
TASK = tasks.images(PICTURES, LABELS, test=(PICTURES, LABELS))
DARTS = dnas.PUBLISHED["DARTS_V2"]


class Begun(Exception):
    """All arguments have been looked at."""


def begin(state):
    raise Begun


def until_begun(function, **arguments):
    if arguments["hooks"] is len:
        return None  # a function of one's own that fails: its error is not ours
    try:
        return function(**arguments)
    except Begun:
        return None


@pytest.fixture(scope="module", autouse=True)
def no_programs_of_other_tests():
    """Emptying the caches takes seconds where other tests have filled them."""
    jax.clear_caches()


def begins(function, **arguments):
    """That the call obeys; no program is kept, so that thousands of calls have room."""
    obeys(until_begun, function, **arguments)
    jax.clear_caches()


HOOKS = dnas.QUIET._replace(resume=begin)
SEARCH = {
    "space": LINEAR,
    "task": TASK,
    "method": dnas.Method(),
    "model": None,
    "channels": 2,
    "num_cells": 1,
    "epochs": 2,
    "batch_size": 4,
    "max_steps": 3,
    "seed": 0,
    "hooks": HOOKS,
}


@FEWER
@given(arguments(SEARCH))
def test_a_search(changed):
    begins(dnas.run_search, **changed)


@FEWER
@given(arguments(SEARCH | {"space": dnas.SPACES["darts"], "method": dnas.METHODS["darts1"]}))
def test_the_search_of_a_published_method(changed):
    if changed["method"] is None or isinstance(changed["method"], dnas.Method):
        return  # is compiled, which takes longer than the law allows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnas.run._run_stage", lambda *_: begin(None))
        begins(dnas.run_search, **changed)


def linear_network(num_classes: int = 3) -> dnas.Model:
    def init(key, images):
        return {"params": jnp.zeros((images[0].size, num_classes))}

    def apply(variables, mix, images, *, key=None, train=False, drop_path=0.0):
        return dnas.Outputs(images.reshape(len(images), -1) @ variables["params"]), variables

    return dnas.Model(init, apply)


RETRAIN = {
    "network": linear_network(),
    "task": TASK,
    "test": None,
    "epochs": 2,
    "batch_size": 4,
    "max_steps": 3,
    "seed": 0,
    "optimizer": dnas.final_sgd,
    "keep": None,
    "drop_path": 0.1,
    "auxiliary_weight": 0.4,
    "evaluate_every": 1,
    "hooks": HOOKS,
}


@FEWER
@given(arguments(RETRAIN))
def test_a_training(changed):
    begins(dnas.retrain, **changed)


SIZES = {"channels": 4, "num_cells": 3, "num_classes": 3}


@pytest.mark.parametrize("name", sorted(dnas.SPACES))
@given(changed=arguments(SIZES))
def test_sizes_of_networks(name, changed):
    space = dnas.SPACES[name]
    genotype = dnas.random_genotype(jax.random.key(0), space)
    obeys(space.supernet, **changed)
    obeys(space.network, genotype, **changed)
    image = {} if space.inputs == "tokens" else {"image_size": (16, 16)}
    obeys(space.layers, channels=changed["channels"], num_cells=changed["num_cells"], **image)
    obeys(space.parts, **changed)


@FEWER
@given(arguments(SIZES | {"image_size": 16, "image_channels": 3, "stem": "cifar"}))
def test_counts(changed):
    sizes = {"space": dnas.SPACES["nasbench201"], "genotype": NASBENCH} | changed
    obeys(dnas.count_network, **sizes)


NASBENCH = dnas.random_genotype(jax.random.key(0), dnas.SPACES["nasbench201"])


@pytest.mark.parametrize("make", [dnas.darts_space, dnas.nasbench201_space, dnas.recurrent_space])
@given(value=OBJECTS, data=st.data())
def test_a_space_of_ones_own(make, value, data):
    name = data.draw(st.sampled_from(("name", "ops", "num_nodes")))
    obeys(make, **{name: value})


IMAGES = {
    "images": PICTURES,
    "labels": LABELS,
    "test": (PICTURES, LABELS),
    "num_classes": 3,
    "augmentation": dnas.Augmentation((0.5,), (0.2,)),
    "label_smoothing": 0.1,
}
AUGMENTATION = dnas.Augmentation((0.5,), (0.2,))._asdict()


@given(arguments(IMAGES, OBJECTS | st.lists(ARRAYS, max_size=3)))
def test_images(changed):
    obeys(tasks.images, **changed)


@given(arguments(AUGMENTATION))
def test_what_is_done_to_images(changed):
    obeys(tasks.images, PICTURES, LABELS, augmentation=dnas.Augmentation(**changed))


@st.composite
def labelled(draw):
    """Images and labels of any shape, type and range."""
    shape = draw(st.lists(st.integers(0, 9), max_size=5))
    kind = draw(st.sampled_from(("uint8", "int8", "float32", "bool", "complex64", "object", "U2")))
    count = draw(st.sampled_from((*shape[:1], 0, 3)))
    number = draw(st.sampled_from(("int64", "uint64", "int8", "float64", "bool", "object")))
    values = st.integers(-3, 12) | st.sampled_from((2**31, 2**33, 2**63 - 1))
    labels = draw(st.lists(values, min_size=count, max_size=count))
    return np.zeros(shape, kind), np.array(labels, object), number


@given(labelled())
def test_arrays_of_images_and_labels(drawn):
    images, labels, number = drawn
    try:
        labels = labels.astype(number)
    except OverflowError:
        return
    data = obeys(tasks.data.check_data, images, labels)
    if data is not None:
        assert data.labels.tolist() == labels.tolist()


TEXT = "the cat sat on the mat. " * 9
READ = {"text": TEXT, "tokens": "words", "min_count": 2, "max_tokens": 100, "parts": (0.8, 0.1)}


@given(arguments(READ))
def test_a_text(changed):
    obeys(dnas.read_text, **changed)


@given(arguments({"text": dnas.read_text(TEXT), "window": 3, "slowness": 1e-3}))
def test_the_task_of_a_text(changed):
    obeys(tasks.text, **changed)


@given(arguments({"train": [0, 1, 2], "test": [0, 1, 2], "num_tokens": 3, "smoothing": 1.0}))
def test_a_unigram_model(changed):
    obeys(dnas.unigram_perplexity, **changed)


SETTINGS = ("epochs", "batch_size", "learning_rate", "seed", "channels", "warmup", "arch_every")


@pytest.mark.parametrize("name", sorted(dnas.METHODS))
@given(setting=st.sampled_from(SETTINGS), value=OBJECTS | LEAVES)
def test_settings_of_a_published_method(name, setting, value):
    method = dnas.METHODS[name]
    space = dnas.SPACES[method.space]
    obeys(functools.partial(method, space, steps_per_epoch=2), **{setting: value})
