"""What people give as files and texts: read whole, bounded in size, whatever program wrote them.
Standard library only."""

import codecs
import collections
import csv
import gzip
import io
import json
import os
import pathlib
import reprlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

MOST_BYTES = 2**26  # of a file, and of what it holds where it is compressed

_MOST_COLUMNS = 10_000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text_file(path: str | os.PathLike, *, most_bytes: int = MOST_BYTES) -> str:
    """Returns the text of a file in UTF-8, plain or compressed by gzip.

    The mark that some editors put in front is left out, and lines end with a line feed.

    Raises:
      ValueError: for a file that cannot be read, is larger than most_bytes (when unpacked) or is
        not text in UTF-8: names it, and says what to do.
    """
    return decode(read_file(path, most_bytes=most_bytes), path)


def read_file(path: str | os.PathLike, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Returns the content of a file, unpacked where gzip has compressed it; never more than
    most_bytes are in memory.

    Raises:
      ValueError: as `read_text_file`.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            content = _read(file, most_bytes)
        if content[:2] == b"\x1f\x8b" and len(content) <= most_bytes:
            with gzip.open(io.BytesIO(content)) as unpacked:
                content = _read(unpacked, most_bytes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if len(content) > most_bytes:
        raise ValueError(
            f"{path} holds more than {most_bytes:,} bytes, the most that are read of such a file;"
            " give less of it"
        )
    return content


def _read(file: io.BufferedIOBase, most_bytes: int) -> bytes:
    """The content, or a little more than most_bytes of it."""
    content = bytearray()
    while len(content) <= most_bytes and (piece := file.read(2**20)):
        content += piece
    return bytes(content)


def decode(content: bytes, name: object) -> str:
    """Returns text in UTF-8 as `read_text_file` does.

    Raises:
      ValueError: for what is none; calls it `name`.
    """
    if content.startswith(_UTF16) or b"\0" in content[:4]:
        raise ValueError(
            f"{name} is not text in UTF-8, but perhaps in UTF-16, as PowerShell and spreadsheets"
            " write it; save it as UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not text in UTF-8 (byte {content[error.start]:#04x} in line"
            f" {content.count(10, 0, error.start) + 1}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_csv(
    lines: Iterable[str], name: object, needed: Iterable[str] = (), *, first: int = 1
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Returns the columns that the first line names, and an iterator over all further lines:
    (number of the line, {column: cell}), those without a cell left out.

    A spreadsheet makes all lines as long as the longest: empty cells at the end that no column is
    over are left out.

    Args:
      needed: columns that have to be there.
      first: number of the first line, for messages.

    Raises:
      ValueError: for a column named twice or missing, a line of another length and what is not CSV:
        names the line, also while iterating.
    """
    rows = csv_rows(lines, name, first)
    number, columns = next(rows, (first, []))
    while columns and not columns[-1]:
        columns.pop()
    if len(columns) > _MOST_COLUMNS:
        raise ValueError(
            f"{name}, line {number}: {len(columns):,} columns, but at most {_MOST_COLUMNS:,} are"
            " read; leave out some"
        )
    counts = collections.Counter(filter(None, columns))
    if repeated := [column for column, count in counts.items() if count > 1]:
        raise ValueError(
            f"{name}, line {number}: columns have names, each once; given twice: {shown(repeated)}"
        )
    for column in needed:
        if column not in counts:
            known = ", ".join(counts) or "none"
            raise ValueError(
                f"{name}, line {number}: there is no column {shown(column)}; its columns are:"
                f" {known:.500} (with commas between cells)"
            )
    return columns, _by_column(rows, columns, name)


def _by_column(
    rows: Iterable[tuple[int, list[str]]], columns: list[str], name: object
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in rows:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise ValueError(
                f"{name}, line {number}: {len(cells)} cells, but {len(columns)} columns; put cells"
                " that hold a comma in quotation marks"
            )
        yield number, dict(zip(columns, cells, strict=False))


def csv_rows(lines: Iterable[str], name: object, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of the line, its cells) of all lines with a cell that is not empty.

    Raises:
      ValueError: for what is not CSV: names the line.
    """
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            if any(cells):
                yield first - 1 + reader.line_num, cells
    except csv.Error as error:
        number = first - 1 + reader.line_num
        raise ValueError(f"{name}, line {number}: this is not CSV: {error}") from None


def read_json(text: str, name: object) -> Any:
    """Returns what a text in JSON holds.

    Raises:
      ValueError: for a text that is none, or an object that has a name twice; calls it `name`.
    """
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the name {shown(key)} is given twice")
        found[key] = value
    return found


_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 80


def shown(value: object) -> str:
    """Returns the value as a message shows it: cut short, however deep or long it is.

    Example:
      >>> shown("sep_conv"), shown([[0, 1]] * 1000)
      ("'sep_conv'", '[[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], ...]')
    """
    try:
        return _REPR.repr(value)[:120]
    except (ValueError, RecursionError):  # a number of thousands of digits, a list of that depth
        return f"a huge {type(value).__name__}"
