"""What the settings of retraining become in a job on images."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

import dnas
from dnas.app.config import RetrainCommand, SearchConfig, parse
from dnas.app.images import make_job
from dnas.app.phases import network_of

SMALL = ["--dataset=digits", "--images=64", "--test-images=32", "--batch-size=8"]


def job_of(kind, *words):
    settings = [*SMALL, *words] if kind is SearchConfig else [*SMALL[:3], *words]
    return make_job(parse(kind, settings), lambda reads: None)  # pyright: ignore[reportArgumentType]


def losses(task):
    """Of logits that are sure of the right class."""
    logits = 20.0 * np.eye(10, dtype=np.float32)
    batch = dnas.base.Batch(np.zeros((10, 8, 8, 1)), np.arange(10))
    return float(task.loss(dnas.Outputs(logits), batch)[0])


def images_of(task, levels):
    feed = task.feeds(0, 8, levels)[0]
    return np.asarray(feed.batch(feed.data, np.arange(8), jax.random.key(0), ()).inputs)


def test_labels_are_smoothed_in_retraining_only():
    job = job_of(SearchConfig, "--label-smoothing=0.1")
    assert losses(job.task) < 1e-6
    # A tenth of a label spread over ten classes: nine of them are 20 below.
    assert losses(job.final_task) == pytest.approx(0.09 * 20, rel=1e-3)


@pytest.mark.parametrize("level, name", [(1, "augment"), (2, "search_augment")])
def test_each_policy_changes_the_images_that_it_is_for(level, name):
    plain = job_of(SearchConfig, "--crop-padding=0")
    job = job_of(SearchConfig, "--crop-padding=0", f"--{name}=rand:magnitude=20")
    for levels in (1, 2):
        tasks = [each.final_task if levels == 1 else each.task for each in (plain, job)]
        before, after = (images_of(task, levels) for task in tasks)
        assert (before != after).any() == (levels == level)


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="augment 'wild' is not known; choose from: none, auto"):
        job_of(RetrainCommand, "--genotype=DARTS_V2", "--augment=wild")


def test_the_recipe_of_imagenet_makes_its_network(tmp_path):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (40, 30)).save(tmp_path / part / name / "0.png")
    words = [
        "--genotype=DARTS_V2",
        "--recipe=imagenet",
        "--dataset=folder:image_size=224",
        f"--data-dir={tmp_path}",
        "--retrain-batch-size=2",
    ]
    job = make_job(parse(RetrainCommand, words), lambda reads: None)  # pyright: ignore[reportArgumentType]
    genotype = dnas.PUBLISHED["DARTS_V2"]
    network = network_of(job, genotype)
    variables = jax.eval_shape(network.init, jax.random.key(0), job.final_task.example)
    params = sum(array.size for array in jax.tree.leaves(variables["params"]))
    sizes = {"channels": 48, "num_cells": 14, "image_size": 224, "stem": "imagenet"}
    count = functools.partial(dnas.count_network, dnas.SPACES["darts"], genotype, num_classes=2)
    expected, with_head = count(**sizes), count(**sizes, auxiliary=True)
    assert job.count(genotype) == expected._asdict()
    assert params == with_head.params > expected.params
