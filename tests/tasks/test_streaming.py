"""What is read when it is needed is what is learnt from in memory, from whatever step on."""

import time

import jax
import numpy as np
import pytest
from linear import IMAGES, LABELS, LINEAR, assert_same

import dnas
from dnas.contracts import check_resume
from dnas.tasks import Source, images, stream
from dnas.tasks.data import Augmentation

pytest.importorskip("grain")

AUGMENTATION = Augmentation(mean=(0.5,), std=(0.25,), crop_padding=1)
SIZES = {"channels": 2, "num_cells": 3, "batch_size": 4}


def read(number, seed):
    del seed
    return IMAGES[number], int(LABELS[number])


def read_brighter(number, seed):
    """Images that are changed as they are read."""
    if seed is None:
        return read(number, seed)
    brighter = np.random.default_rng(seed).integers(0, 50)
    return np.clip(IMAGES[number].astype(int) + brighter, 0, 255).astype(np.uint8), LABELS[number]


SOURCE, BRIGHTER = Source(40, read), Source(40, read_brighter)


def batches_of(feed, first, end):
    """The batches of these steps, as the loop asks for them."""
    found = []
    for step in range(first, end):
        epoch, row = divmod(step, feed.steps)
        found.append(jax.tree.map(lambda array: array[0], feed.rows(epoch)[row : row + 1]))
    return found


def test_a_search_is_that_on_the_images_in_memory():
    resident = images(IMAGES, LABELS, augmentation=AUGMENTATION)
    streamed = stream(SOURCE, num_classes=3, augmentation=AUGMENTATION, threads=2)
    results = [
        dnas.run_search(LINEAR, task, epochs=2, hooks=dnas.QUIET, **SIZES)
        for task in (resident, streamed)
    ]
    assert_same(results[0].state, results[1].state)
    assert results[0].genotype == results[1].genotype


def test_halves_rows_scores_and_statistics_are_those_of_images_in_memory():
    resident = images(IMAGES, LABELS, test=(IMAGES[:30], LABELS[:30]))
    streamed = stream(SOURCE, num_classes=3, test=Source(30, read), threads=2)
    for one, other in zip(resident.feeds(3, 4, 2), streamed.feeds(3, 4, 2), strict=True):
        rows = one.rows(5)
        expected = one.data.images[rows], one.data.labels[rows]
        np.testing.assert_array_equal(other.rows(5)[:].images, expected[0])
        np.testing.assert_array_equal(other.rows(5)[:].labels, expected[1])
        np.testing.assert_array_equal(other.rows(5)[-1].images, expected[0][-1])
    supernet = LINEAR.supernet(channels=2, num_cells=3, num_classes=3)
    variables = supernet.init(jax.random.key(0), resident.example)
    mix = {"cell": np.full((2, 3), 1 / 3, np.float32)}
    # The number of images is no multiple of that of a batch, and statistics are of all of them.
    assert streamed.test(supernet)(variables, mix) == resident.test(supernet)(variables, mix)
    half = resident.feeds(3, 4, 2)[1].data, streamed.feeds(3, 4, 2)[1].data
    few = jax.tree.map(lambda array: array[:7], half)
    for one, other in (half, few):
        expected = resident.accuracy(supernet, one)(variables, mix)
        assert streamed.accuracy(supernet, other)(variables, mix) == expected


def test_a_step_reads_the_same_wherever_reading_begins():
    feeds = [stream(BRIGHTER, num_classes=3, threads=3).feeds(0, 4, 1)[0] for _ in "ab"]
    whole = batches_of(feeds[0], 0, 23)  # ten an epoch
    assert len({batch.images.tobytes() for batch in whole}) == 23
    for first in (0, 1, 9, 10, 17):
        assert_same(batches_of(feeds[1], first, 23), whole[first:])


def test_a_search_on_images_that_are_changed_as_they_are_read_may_be_interrupted():
    check_resume(LINEAR, stream(BRIGHTER, num_classes=3, threads=2), steps=7, **SIZES)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_read_parts_of_the_batch_that_one_would_read(processes, monkeypatch):
    task = stream(BRIGHTER, num_classes=3, threads=2)
    (whole,) = batches_of(task.feeds(0, 8, 1)[0], 3, 4)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    parts = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        parts += batches_of(task.feeds(0, 8, 1)[0], 3, 4)
    assert_same(jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts), whole)
    with pytest.raises(ValueError, match=f"batch of 9 .* in equal parts by {processes} processes"):
        task.feeds(0, 9, 1)


def test_batches_are_read_before_they_are_asked_for():
    seen = []
    task = stream(Source(40, lambda *given: seen.append(given) or read(*given)), num_classes=3)
    (feed,) = task.feeds(0, 4, 1)
    batches_of(feed, 0, 1)
    asked = {(0, 3, 0, column) for column in range(4)}
    deadline = time.monotonic() + 20
    while not any(seed == (0, 3, 5, 3) for _, seed in seen):  # of step 5
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert asked < {seed for _, seed in seen}


def test_nothing_is_read_for_steps_that_nobody_asks_for():
    seen = []
    task = stream(
        Source(40, lambda *given: seen.append(given) or read(*given)),
        num_classes=3,
        augmentation=AUGMENTATION,
    )
    before = len(seen)
    task.feeds(0, 4, 2)
    assert len(seen) == before == 1  # which says what all are like


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda number: (IMAGES[number, number:], 0), r"image \d+ is uint8 \[\d, 8, 1\]"),
        (lambda number: (IMAGES[number] / 2.0 if number else IMAGES[0], 0), "is float64"),
        (lambda number: (IMAGES[number], number), r"has the label \d+; labels lie in 0..2"),
    ],
)
def test_images_that_are_not_alike_are_named(own, message):
    task = stream(
        Source(8, lambda number, seed: own(number)), num_classes=3, augmentation=AUGMENTATION
    )
    with pytest.raises(ValueError, match=message):
        task.feeds(0, 8, 1)[0].rows(0)[0:1]


def test_sources_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="images is a whole number from 1 on, got 0"):
        stream(Source(0, read), num_classes=3)
    with pytest.raises(ValueError, match="20 images and a batch size of 21"):
        stream(SOURCE, num_classes=3).feeds(0, 21, 2)


@pytest.mark.slow
def test_workers_read_what_threads_read():
    feeds = [
        stream(BRIGHTER, num_classes=3, threads=2, workers=workers).feeds(0, 4, 1)[0]
        for workers in (0, 2)
    ]
    assert_same(batches_of(feeds[1], 3, 13), batches_of(feeds[0], 3, 13))
