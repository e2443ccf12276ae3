"""What studies on NAS-Bench-201 with real images share: table, images, and rows that are kept."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import dnas
from dnas import tasks
from dnas.app.datasets import load
from dnas.app.durable import append_line, make_folder
from dnas.app.ending import messages
from dnas.app.words import read_words
from dnas.running.runtime import set_up_process
from dnas.tabular import Benchmark, load_benchmark
from dnas.tasks.data import Augmentation, statistics

SPACE = dnas.SPACES["nasbench201"]


@dataclasses.dataclass(frozen=True)
class StudyCommand:
    """The settings of all of them."""

    benchmark: pathlib.Path
    """CSV of NAS-Bench-201."""
    data_dir: pathlib.Path | None = None
    """Folder of CIFAR-10, which is downloaded to a cache unless given."""
    metric: str = "cifar10_test_200ep"
    """Column of the benchmark."""
    image_size: int = 16
    """Side of the images."""
    channels: int = 8
    """Of networks and supernets."""
    seeds: int = 4
    """How many, from 0 on."""
    show: bool = False
    """Print the table of what is there, and run nothing."""


Command = TypeVar("Command", bound=StudyCommand)


def run_study(kind: type[Command], study: Callable[[Command], str], args: list[str]) -> None:
    """Runs what the file of a study does not have yet, and prints its table."""
    with messages("the same command continues"):
        set_up_process()
        print(study(read_words(kind, args)))


def benchmark_of(command: StudyCommand) -> Benchmark:
    """Returns the table."""
    return load_benchmark(command.benchmark, space=SPACE)


def task_of(command: StudyCommand) -> dnas.Task:
    """Returns the task of telling apart all images of CIFAR-10 at this size."""
    data = load(f"cifar10:image_size={command.image_size}", command.data_dir)
    # Crops are those of 4 pixels of 32.
    padding = command.image_size // 8
    augmentation = Augmentation(*statistics(data.train_images), padding, True)
    return tasks.images(data.train_images, data.train_labels, augmentation=augmentation)


def rows(path: pathlib.Path, size: str) -> list[dict[str, str]]:
    """Returns the rows of a file whose column `size`, which says all that they depend on, is this
    one; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["size"] == size]


def add(path: pathlib.Path, columns: Sequence[str], row: Sequence[object]) -> None:
    """Adds a row to a file, which is on the disk when this returns."""
    if not path.exists():
        make_folder(path.parent)
        append_line(path, ",".join(columns))
    append_line(path, ",".join(f'"{value}"' for value in row))
