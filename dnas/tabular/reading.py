"""Reads a benchmark from a CSV: a column of architectures, and a column for each metric."""

import csv
import gzip
import io
import math
import os
import pathlib
import zlib
from collections.abc import Collection

import numpy as np

from dnas.genotype import Genotype
from dnas.space import SearchSpace, check_genotype
from dnas.tabular.benchmark import Benchmark, number_rows


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
      metrics: the columns to read; unless given all others, but for one named "index".
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
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        wanted = _wanted(path, header, column, metrics)
        lines, genotypes, values = [], [], {name: [] for name in wanted}
        for row in reader:
            if not row:
                continue
            where = f"line {reader.line_num} of {path}"
            if len(row) != len(header):
                raise ValueError(
                    f"{where} has {len(row)} fields, and the first line names {len(header)} columns"
                )
            lines.append(reader.line_num)
            genotypes.append(
                _genotype(row[header.index(column)], space, f"{where}, column {column!r}")
            )
            for name in wanted:
                values[name].append(_number(row[header.index(name)], f"{where}, column {name!r}"))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path} is not CSV: {error}") from None
    if not genotypes:
        raise ValueError(f"{path} has no line after its first")
    number_rows(genotypes, lambda row: f"line {lines[row]} of {path}")
    arrays = {name: np.asarray(own) for name, own in values.items()}
    return Benchmark(genotypes, arrays, costs)


def _content(path: pathlib.Path) -> str:
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}. dnas downloads no benchmark: those of NAS-Bench-201 are"
            " published at https://github.com/D-X-Y/NAS-Bench-201 and"
            " https://github.com/D-X-Y/NATS-Bench; write one as a CSV with a column of"
            " architectures, as dnas.tabular.from_nats(...).write(path) does"
        )
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a CSV file, plain or compressed by gzip: {error}. The files of"
            " NATS-Bench (.pickle.pbz2) are read by dnas.tabular.from_nats"
        ) from None


def _wanted(path, header: list[str], column: str, metrics: Collection[str] | None) -> list[str]:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"line 1 of {path} names columns twice: {', '.join(map(repr, repeated))}")
    wanted = (
        [name for name in header if name not in (column, "index")]
        if metrics is None
        else list(metrics)
    )
    missing = [name for name in [column, *wanted] if name not in header]
    if missing:
        raise ValueError(
            f"line 1 of {path} names no column {missing[0]!r}; it names: {', '.join(header)}"
        )
    if not wanted or column in wanted:
        raise ValueError(
            f"{path} needs columns of metrics beside {column!r}; its columns are:"
            f" {', '.join(header)}"
        )
    return wanted


def _genotype(text: str, space: SearchSpace | None, where: str) -> Genotype:
    try:
        genotype = Genotype.from_text(text)
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
            f"{where} holds {text!r}, not a finite number; name the columns to read with metrics=,"
            " or leave it out"
        )
    return number
