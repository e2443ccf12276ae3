"""What the chaos study does things to: commands at their smallest size."""

import pathlib
from typing import NamedTuple

import dnas
from dnas.app.outcomes import rows_of_table

NAME = "a"  # of every run

_SEARCH = (
    *("--channels=2", "--cells=1", "--epochs=3", "--batch-size=16", "--images=80"),
    *("--test-images=70", "--checkpoint-seconds=0"),
)
_RETRAIN = (
    *("--retrain-channels=2", "--retrain-cells=1", "--retrain-epochs=3"),
    *("--retrain-batch-size=32", "--random-cells=1"),
)
_SMALL = ("--space=nasbench201", "--cells=3", "--retrain-cells=3")
_TEXT = (
    *("--channels=4", "--epochs=3", "--batch-size=3", "--window=5", "--retrain-channels=4"),
    *("--retrain-epochs=3", "--retrain-batch-size=3", "--random-cells=1", "--checkpoint-seconds=0"),
)
_TABLE = (
    *("--space=nasbench201", "--runtime=jax", "--channels=2", "--cells=3", "--image-size=8"),
    *("--image-channels=1", "--repeats=2", "--device=here"),
)


class Work(NamedTuple):
    """A command, and how it is told to go on."""

    words: tuple[str, ...]
    resume: tuple[str, ...] = ("--resume=1",)
    is_run: bool = True  # whether its folder is that of one run, which `dnas evaluate` reads


WORKS = {
    "search": Work(("search", *_SEARCH, "--retrain=0")),
    "whole": Work(("search", *_SEARCH, *_RETRAIN)),
    "retrain": Work(
        ("retrain", "--genotype=DARTS_V2", *_SEARCH[4:], *_RETRAIN[:4], "--evaluate-every=1")
    ),
    "text": Work(("text", "--text={data}/book.txt", *_TEXT)),
    "study": Work(
        (
            *("study", "--benchmark={data}/cells.csv", "--methods=darts1,gdas", "--seeds=2"),
            *(*_SEARCH, *_SMALL),
        ),
        resume=(),
        is_run=False,
    ),
    "pareto": Work(
        ("pareto", "--metric=params", "--points=2", *_SEARCH, *_RETRAIN, *_SMALL),
        resume=(),
        is_run=False,
    ),
    "table": Work(("table", *_TABLE), resume=(), is_run=False),
}


def words_of(
    work: Work, folder: pathlib.Path, data: pathlib.Path, *, name: str = NAME
) -> list[str]:
    """Returns the words of the command in a folder of runs."""
    words = [word.format(data=data) for word in work.words]
    if words[0] == "table":
        return [*words, f"--out={folder / name / 'table.csv'}"]
    return [*words, f"--runs={folder}", f"--name={name}"]


def write_data(folder: pathlib.Path) -> None:
    """Writes the text and the benchmark that the commands read."""
    folder.mkdir(parents=True, exist_ok=True)
    line = "The cat sat on the mat, and the dog sat on the cat.\n"
    (folder / "book.txt").write_text(line * 40)
    spec = dnas.SPACES["nasbench201"].cells["cell"]
    with open(folder / "cells.csv", "w", encoding="utf-8") as file:
        file.write("arch,accuracy\n")
        for number in range(len(spec.ops) ** len(spec.edges)):
            a, b, c, d, e, f = (
                spec.ops[number // len(spec.ops) ** edge % len(spec.ops)]
                for edge in range(len(spec.edges))
            )
            # Different for each, in no order.
            value = number * 7919 % 15_629 / 200
            file.write(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|,{value}\n")


def measured(folder: pathlib.Path) -> set[tuple]:
    """Returns the rows of tables with what was measured, which a continued table keeps."""
    found = set()
    for path in folder.rglob("table.csv"):
        found |= {(part, cost) for part, cost in rows_of_table(path).items()}
    return found


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the content of every file in a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
