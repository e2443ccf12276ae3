"""Reads a benchmark from a CSV: a column of architectures, and a column for each metric."""

import io
import math
import os
import pathlib
import re
from collections.abc import Collection

import numpy as np

from dnas.checks import checked
from dnas.files import read_csv, read_text_file, shown
from dnas.genotype import Genotype
from dnas.space import SearchSpace, check_genotype
from dnas.tabular.benchmark import Benchmark, number_rows

# As pandas writes them, and calls them once it has read them again.
_ROW_NUMBERS = re.compile(r"|index|Unnamed: \d+")


@checked
def load_benchmark(
    path: str | os.PathLike,
    *,
    space: SearchSpace | None = None,
    column: str = "arch",
    metrics: Collection[str] | None = None,
    costs: Collection[str] | None = None,
) -> Benchmark:
    """Returns the benchmark in a CSV file, plain or compressed by gzip, whose first line names the
    columns.

    Nothing is downloaded. Tables that are published: NAS-Bench-201,
    https://github.com/D-X-Y/NAS-Bench-201, and NATS-Bench, https://github.com/D-X-Y/NATS-Bench, in
    formats that `from_nats` reads and `Benchmark.write` makes a CSV of.

    Args:
      space: what the architectures belong to; unless given, their ops and edges are not checked.
      column: the one of architectures, in any notation that `Genotype.from_text` reads.
      metrics: the columns to read; unless given all others, but for those of row numbers: without
        a name, as pandas writes them, or named "index" or "Unnamed: 0".
      costs: of which metrics less is better, as `Benchmark` takes it.

    Raises:
      ValueError: if there is no such file or column, and for an architecture or a number that is
        wrong: names the line.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
      ...     _ = file.write("arch,accuracy\\n|nor_conv_3x3~0|,93.5\\n|skip_connect~0|,54.3\\n")
      ...     file.flush()
      ...     load_benchmark(file.name).query("|skip_connect~0|")
      {'accuracy': 54.3}
    """
    path = pathlib.Path(path)
    if not os.path.isfile(path):
        raise ValueError(
            f"there is no file {path}. dnas downloads no benchmark: those of NAS-Bench-201 are"
            " published at https://github.com/D-X-Y/NAS-Bench-201 and"
            " https://github.com/D-X-Y/NATS-Bench; write one as a CSV with a column of"
            " architectures, as dnas.tabular.from_nats(...).write(path) does"
        )
    needed = [column, *(metrics or ())]
    columns, rows = read_csv(io.StringIO(_text(path)), path, needed)
    named = [name for name in columns if name != column and not _ROW_NUMBERS.fullmatch(name)]
    wanted = named if metrics is None else list(metrics)
    if not wanted or column in wanted:
        raise ValueError(
            f"{path} needs columns of metrics beside {column!r}; its columns are:"
            f" {', '.join(columns):.500}"
        )
    lines, genotypes, values = [], [], {name: [] for name in wanted}
    for line, cells in rows:
        where = f"{path}, line {line}, column"
        lines.append(line)
        genotypes.append(_genotype(cells[column], space, f"{where} {column!r}"))
        for name in wanted:
            values[name].append(_number(cells[name], f"{where} {name!r}"))
    if not genotypes:
        raise ValueError(f"{path} has no line after its first")
    number_rows(genotypes, lambda row: f"{path}, line {lines[row]}")
    arrays = {name: np.asarray(own) for name, own in values.items()}
    return Benchmark(genotypes, arrays, costs)


def _text(path: pathlib.Path) -> str:
    try:
        return read_text_file(path)
    except ValueError as error:
        raise ValueError(
            f"{error}. The files of NATS-Bench (.pickle.pbz2) are read by dnas.tabular.from_nats"
        ) from None


def _genotype(text: str, space: SearchSpace | None, where: str) -> Genotype:
    try:
        genotype = Genotype.from_text(text, space=None if space is None else space.name)
        if space is not None:
            check_genotype(space, genotype)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return genotype


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{where} holds {shown(text)}, not a finite number; name the columns to read with"
            " metrics=, or leave it out"
        )
    return number
