"""Images that are read when they are needed, since all of them do not fit into memory.

Examples are read by their number, so that what a step learns from is a function of seed and step:
a run that is resumed needs to know nothing more. grain (https://github.com/google/grain) reads
ahead in threads, or in processes, while steps are computed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Mix, PyTree
from dnas.checks import at_least, checked
from dnas.model import Model
from dnas.tasks.data import (
    Augmentation,
    Data,
    augmented_batch,
    check_augmentation,
    epoch_batches,
    full_batches,
    half_numbers,
    independent_batches,
    normalize,
    plain_augmentation,
)
from dnas.tasks.task import Feed, Task, smoothed_cross_entropy

_MOST_STEPS = 2**31 - 1
_ROOM = 2**28  # bytes of batches that a call is given, and as many that are read ahead of it
_MOST_AHEAD = 64  # batches; no call has more
_SAMPLE = 1000  # images whose mean and deviation stand for those of all


class Source(NamedTuple):
    """Labelled images that can be read one by one, in any order.

    `read(number, seed)` returns (image uint8 [H, W, C], label): with a seed, a tuple of whole
    numbers that no other example of a run has, changed at random as a training wants it; without,
    None, as scores want it. It is called from several threads at once, or in other processes, to
    which it has to be sent.
    """

    size: int  # images, numbered from 0
    read: Callable[[int, tuple[int, ...] | None], tuple[np.ndarray, int]]


@checked
def stream(
    train: Source,
    *,
    num_classes: int,
    test: Source | None = None,
    augmentation: Augmentation | None = None,
    label_smoothing: float = 0.0,
    threads: int = 8,
    workers: int = 0,
) -> Task:
    """Returns the task that `dnas.tasks.images` makes of images in memory: the same halves, the
    same order, the same augmentation in the compiled step.

    What a step learns from is read by grain beforehand. In a job of several processes each reads
    its own part of every batch, and all of what is scored.

    Args:
      num_classes, test, augmentation, label_smoothing: as of `dnas.tasks.images`; the augmentation
        normalises by up to 1,000 of the images unless given.
      threads: that read a batch each, in every worker.
      workers: processes that read. Without any the threads are those of this process, which is
        enough where reading does not hold Python up: decoders of images, and files, do not.

    Raises:
      ValueError: for sources without images, and once they are read for images that differ in
        shape, or labels that are out of range.
      ModuleNotFoundError: without grain.

    Example:
      >>> pictures = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
      >>> source = Source(20, lambda number, seed: (pictures[number], number % 3))
      >>> task = stream(source, num_classes=3)
      >>> feed, _ = task.feeds(0, 4, 2)
      >>> feed.steps, feed.rows(0)[0].images.shape
      (2, (4, 8, 8, 1))
    """
    _import_grain()
    loss = smoothed_cross_entropy(label_smoothing)
    at_least(1, threads=threads, num_classes=num_classes)
    at_least(0, workers=workers)
    for source in (train, test):
        if source is not None:
            at_least(1, images=source.size)
    shape = train.read(0, None)[0].shape
    kind = _Kind(shape, num_classes)
    if augmentation is None:
        numbers = np.random.default_rng(0).permutation(train.size)[:_SAMPLE]
        sample = _Batches(train, kind, lambda epoch: numbers[None], 1, 1)
        augmentation = plain_augmentation(sample[0].images)
    check_augmentation(augmentation, np.zeros((1, *shape), np.uint8))

    def batch(data, rows, key, carried):
        del data, carried
        return augmented_batch(key, rows, slice(None), augmentation)

    def feeds(seed: int, batch_size: int, levels: int) -> tuple[Feed, ...]:
        weights = arch = np.arange(train.size)  # their examples
        if levels == 2:
            weights, arch = half_numbers(train.size, seed)
        steps = full_batches(len(weights), batch_size)
        process, processes = jax.process_index(), jax.process_count()
        if batch_size % processes:
            raise ValueError(
                f"a batch of {batch_size} cannot be read in equal parts by {processes} processes"
            )
        room = _ROOM // (int(np.prod(shape)) * batch_size // processes)
        most_steps = int(np.clip(room, 1, _MOST_AHEAD))

        def of_weights(epoch: int) -> np.ndarray:
            return weights[epoch_batches(seed, epoch, len(weights), batch_size)]

        def of_arch(epoch: int) -> np.ndarray:
            return arch[independent_batches(seed, epoch, len(arch), batch_size, steps)]

        found = []
        for level, (own, rows) in enumerate([(weights, of_weights), (arch, of_arch)][:levels]):
            drawn = seed, 3 + level  # beside 0 to 2, of which halves and orders are made
            batches = _Batches(train, kind, rows, steps, _MOST_STEPS, drawn, (process, processes))
            reader = _Reader(batches, threads, workers, most_steps)
            found.append(Feed(own, steps, reader.epoch, batch, most_steps))
        return tuple(found)

    def scored_on(source: Source, model: Model, numbers: Any = None) -> Callable[..., float]:
        numbers = np.arange(source.size) if numbers is None else np.asarray(numbers)
        return _make_evaluation(model, source, kind, numbers, augmentation, threads, workers)

    def accuracy(model: Model, data: PyTree) -> Callable[[PyTree, Mix], float]:
        return scored_on(train, model, data)

    def score(model: Model) -> Callable[[PyTree], float]:
        assert test is not None
        return scored_on(test, model)

    return Task(
        inputs="images",
        example=jnp.zeros((1, *shape)),
        num_classes=num_classes,
        feeds=feeds,
        loss=loss,
        accuracy=accuracy,
        sizes={"image_size": shape[:2]},
        test=None if test is None else score,
    )


class _Kind(NamedTuple):
    """What all images have in common."""

    shape: tuple[int, ...]  # [H, W, C]
    num_classes: int


class _Batches:
    """All batches of a feed by the step, counted from the start of the run: what grain reads.

    Args:
      numbers: epoch -> numbers of the examples [steps, B].
      steps: of an epoch.
      length: steps of all epochs.
      seed: of what is drawn for examples; None: they are read as they are.
      part: (which, of how many) that this process reads of every batch.
    """

    def __init__(
        self,
        source: Source,
        kind: _Kind,
        numbers: Callable[[int], np.ndarray],
        steps: int,
        length: int,
        seed: tuple[int, ...] | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        self._source, self._kind = source, kind
        self.steps, self._numbers, self._length = steps, numbers, length
        self._seed, self._part = seed, part
        self._epoch: tuple[int, np.ndarray] = (-1, np.zeros((0, 0), np.int32))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, step: int) -> Data:
        epoch, row = divmod(int(step), self.steps)
        known, numbers = self._epoch  # at once: other threads may be in another epoch
        if known != epoch:
            numbers = self._numbers(epoch)
            self._epoch = epoch, numbers
        which, parts = self._part
        size = numbers.shape[1] // parts
        columns = range(which * size, (which + 1) * size)
        read = [self._example(int(numbers[row, column]), step, column) for column in columns]
        images, labels = zip(*read, strict=True)
        return Data(np.stack(images), np.asarray(labels, np.int32))

    def _example(self, number: int, step: int, column: int) -> tuple[np.ndarray, int]:
        # What is drawn depends on the place in the whole batch, however many processes read it.
        seed = None if self._seed is None else (*self._seed, int(step), column)
        image, label = self._source.read(number, seed)
        if image.dtype != np.uint8 or image.shape != self._kind.shape:
            raise ValueError(
                f"image {number} is {image.dtype} {list(image.shape)}, and the first is uint8"
                f" {list(self._kind.shape)}; all have to be brought to one shape as they are read"
            )
        if not 0 <= label < self._kind.num_classes:
            raise ValueError(
                f"image {number} has the label {label}; labels lie in"
                f" 0..{self._kind.num_classes - 1}"
            )
        return image, label


class _Reader:
    """Reads batches ahead of the steps that ask for them, one after the other.

    Args:
      ahead: batches that are read before they are asked for.
    """

    def __init__(self, batches: _Batches, threads: int, workers: int, ahead: int):
        self._batches, self._threads, self._workers = batches, threads, workers
        self._ahead = max(ahead, threads)
        self._next = -1  # the step whose batch comes next
        self._iterator: Iterator[Data] = iter(())

    def epoch(self, number: int) -> "_Epoch":
        return _Epoch(self, number)

    @property
    def batches(self) -> _Batches:
        return self._batches

    def read(self, first: int, count: int) -> list[Data]:
        """The batches of steps that follow each other. Those after the last ones are there already,
        others are begun with anew."""
        if first != self._next:
            self._iterator = self._from(first)
        self._next = first + count
        return [next(self._iterator) for _ in range(count)]

    def _from(self, first: int) -> Iterator[Data]:
        grain = _import_grain()
        dataset = grain.MapDataset.source(self._batches)[first:]
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._ahead)
        batches = dataset.to_iter_dataset(options)
        if self._workers:
            from absl import flags

            # Which grain asks for in processes, and only programs of absl parse.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(self._workers))
        return iter(batches)


class _Epoch:
    """The rows of an epoch, as `Feed` has them: batches that are read when they are asked for."""

    def __init__(self, reader: _Reader, number: int):
        self._reader, self._steps = reader, reader.batches.steps
        self._first = number * self._steps

    def __getitem__(self, steps: int | slice) -> Data:
        if isinstance(steps, slice):
            start, end, _ = steps.indices(self._steps)
            read = self._reader.read(self._first + start, end - start)
            return jax.tree.map(lambda *arrays: np.stack(arrays), *read)
        return self._reader.batches[self._first + steps % self._steps]


def _make_evaluation(
    model: Model,
    source: Source,
    kind: _Kind,
    numbers: np.ndarray,
    augmentation: Augmentation,
    threads: int,
    workers: int,
    batch_size: int = 256,
) -> Callable[..., float]:
    """Returns (variables, mix={}) -> accuracy in 0..1 on the images of these numbers, as
    `dnas.make_evaluation` does of images in memory."""
    size = len(numbers)
    batch_size = min(batch_size, size)
    steps = -(-size // batch_size)
    rows = np.resize(numbers, (steps, batch_size))  # from the start again, where they end
    batches = _Batches(source, kind, lambda epoch: rows, steps, steps)

    @jax.jit
    def count_correct(variables, mix, batch, left):
        outputs, _ = model.apply(variables, mix, normalize(batch.images, augmentation))
        right = outputs.logits.argmax(-1) == batch.labels
        return jnp.sum(right & (jnp.arange(batch_size) < left))

    def evaluate(variables: PyTree, mix: Mix = {}) -> float:  # noqa: B006
        reader = _Reader(batches, threads, workers, threads)
        correct = 0
        for step in range(steps):
            (batch,) = reader.read(step, 1)
            correct += int(count_correct(variables, mix, batch, size - step * batch_size))
        return correct / size

    return evaluate


def _import_grain() -> Any:
    try:
        import grain
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "grain, which reads images ahead, is not installed: pip install 'dnas[stream]', or give"
            " images in memory to dnas.tasks.images"
        ) from None
    return grain
