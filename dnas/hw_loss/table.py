"""A table of hardware costs: what one device takes for each part of a network. Load, check, write,
merge."""

import csv
import dataclasses
import io
import math
import numbers
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from dnas.checks import check_fields, checked
from dnas.files import csv_rows, read_csv, read_text_file, shown
from dnas.parts import Part

Number = TypeVar("Number", int, float)

# Every metric is kept in one unit, the first; the others are converted when a table is read, and
# anything else is refused.
_BYTES = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
METRICS: dict[str, dict[str, float]] = {
    "latency": {"ms": 1, "s": 1e3, "us": 1e-3, "ns": 1e-6},
    "energy": {"mJ": 1, "J": 1e3, "uJ": 1e-3},
    "peak_memory": _BYTES,
    "macs": {"macs": 1, "kmacs": 1e3, "Mmacs": 1e6, "Gmacs": 1e9},
    "params": {"params": 1, "kparams": 1e3, "Mparams": 1e6},
    "bytes": _BYTES,
}
_HEADER = ("device", "runtime", "unit", "batch", "date", "source")
_OPTIONAL = ("calibration",)
_RELU = "relu_k"  # in a calibration, a thousand numbers of ReLUs
_SHAPE = ("channels_in", "channels_out", "height", "width", "stride")
_VALUES = ("mean", "spread", "count")
_MOST_BYTES = 2**23  # of a file, some 100,000 rows
_MOST = 1e30  # of a cost, in the unit of its metric
TABLES = pathlib.Path(__file__).parent / "tables"


class Cost(NamedTuple):
    """What one part costs, in the unit of its metric, for the batch of the table."""

    mean: float
    spread: float | None = (
        None  # standard deviation or the like, as the source has it; None where it is not known
    )
    count: int | None = None  # measurements behind it; None where it is not known
    interpolated: bool = False  # not measured, see `CostTable.costs`


class Calibration(NamedTuple):
    """How a sum of parts becomes the cost of a network, see `calibrate`: offset + sum over ops of
    factor * parts + ReLUs."""

    offset: float  # in the unit of the metric
    factors: Mapping[str, float]  # by op; those of ops that are not there are that of ""
    networks: int  # measured for it
    # for each thousand numbers of ReLUs that are computed by themselves, see `ExpectedCost.relus`
    relu: float = 0.0

    def factor(self, op: str) -> float:
        """Returns the factor of an op."""
        return self.factors.get(op, self.factors[""])


@dataclasses.dataclass(frozen=True)
class CostTable:
    """The costs of one device: rows {(metric, part): cost}, in the base unit of each metric.

    Args:
      device, runtime: what ran it, such as "Raspberry Pi 4" and "LiteRT 2.16".
      batch: images at once.
      date, source: of the measurement, free text on one line.
      rows: any number of metrics of `METRICS`.
      calibrations: {metric: Calibration}, of tables that were compared with whole networks.

    Raises:
      ValueError: for a metric that does not exist, a cost that is not a finite number of at least
        0, and text that a header cannot hold.

    Example:
      >>> row = {("latency", Part("skip_connect", 8, 8, 4, 4)): Cost(0.5)}
      >>> table = CostTable("here", "jax", 1, "2025-01-31", "a guess", row)
      >>> table == read_table(write_table(table)), table.metrics
      (True, ('latency',))
    """

    device: str
    runtime: str
    batch: int
    date: str
    source: str
    rows: Mapping[tuple[str, Part], Cost]
    calibrations: Mapping[str, Calibration] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        for name in ("device", "runtime", "date", "source"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text or text != _one_line(text):
                raise ValueError(
                    f"{name} of a table is text on one line, without a comma or a blank at its end,"
                    f" not {shown(text)}"
                )
        if not _is_whole(self.batch):
            raise ValueError(
                f"batch of a table is a number of images, at least 1, not {shown(self.batch)}"
            )
        if not self.rows:
            raise ValueError(
                "a table without rows was given; it needs a row for each part and metric"
            )
        for (metric, part), cost in self.rows.items():
            _check_row(metric, part, cost)
        for metric, own in self.calibrations.items():
            numbers = [own.offset, own.relu, *own.factors.values()]
            if (
                metric not in self.metrics
                or "" not in own.factors
                or not all(map(math.isfinite, numbers))
            ):
                raise ValueError(
                    "a calibration is of a metric of the table and has finite numbers, not"
                    f" {shown(metric)}: {shown(own)}"
                )
            if own.relu < 0:
                raise ValueError(
                    f"ReLUs cost at least nothing, but the calibration of {metric} says {own.relu}"
                )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the table has rows of, in the order of `METRICS`."""
        return tuple(metric for metric in METRICS if any(own == metric for own, _ in self.rows))

    def metric(self, name: str | None = None) -> str:
        """Returns the metric of this name, or the only one of the table.

        Raises:
          ValueError: if the table does not have it, or has several and none is named.
        """
        if name is None and len(self.metrics) == 1:
            return self.metrics[0]
        if name not in self.metrics:
            raise ValueError(
                f"the table of {self.device} has the metrics {', '.join(self.metrics)}; name one,"
                f" not {name!r}"
            )
        return name

    def costs(
        self, parts: Iterable[Part], metric: str | None = None, *, interpolate: bool = False
    ) -> list[Cost]:
        """Returns the cost of each part.

        Args:
          interpolate: fill in a part that was measured at a smaller and at a larger size, all else
            equal: linear in the number of positions between the nearest of both. Such a cost is
            marked `interpolated` and has no spread.

        Raises:
          ValueError: names every part that the table lacks.
        """
        metric, parts = self.metric(metric), list(parts)
        found = {part: self.rows.get((metric, part)) for part in parts}
        if interpolate:
            found |= {
                part: self._between(metric, part) for part, cost in found.items() if cost is None
            }
        costs = {part: cost for part, cost in found.items() if cost is not None}
        if lacking := [str(part) for part in found if part not in costs]:
            raise ValueError(
                f"the {metric} table of {self.device} lacks {len(lacking)} of {len(found)} parts;"
                f" measure them{'' if interpolate else ', or ask for interpolate=True'}:\n  "
                + "\n  ".join(lacking)
            )
        return [costs[part] for part in parts]

    def _between(self, metric: str, part: Part) -> Cost | None:
        def others(row):
            return row._replace(height=0, width=0)

        alike = [(row.height * row.width, cost.mean) for (own, row), cost in self.rows.items()
                 if own == metric and others(row) == others(part)]  # fmt: skip
        positions = part.height * part.width
        below = max((point for point in alike if point[0] <= positions), default=None)
        above = min((point for point in alike if point[0] >= positions), default=None)
        if below is None or above is None:
            return None
        share = (positions - below[0]) / max(above[0] - below[0], 1)
        return Cost(below[1] + share * (above[1] - below[1]), interpolated=True)


def _check_row(metric: str, part: Part, cost: Cost) -> None:
    if metric not in METRICS:
        raise ValueError(
            f"metric {metric!r} of {part} does not exist; choose from: {', '.join(METRICS)}"
        )
    if not isinstance(part.op, str) or not re.fullmatch(r"\w{1,100}", part.op):
        raise ValueError(f"an op is named by letters, digits and _, not {shown(part.op)}")
    for name in _SHAPE:
        value = getattr(part, name)
        if not _is_whole(value):
            raise ValueError(
                f"{name} of {part.op} is a whole number of at least 1 and below 2**31, not"
                f" {shown(value)}"
            )
    try:
        names = [name for name, _ in part.keys]
        ordered = sorted(set(names))
    except (TypeError, ValueError):
        raise ValueError(
            f"further keys of {part.op} are pairs of a name and a value, not {shown(part.keys)}"
        ) from None
    if names != ordered or set(names) & {"metric", "op", *_SHAPE, *_VALUES}:
        raise ValueError(
            f"further keys of {part} have names of their own, sorted, each once; got {names}"
        )
    for name, value in part.keys:
        whole = isinstance(value, int) and abs(value) < 2**31
        word = isinstance(value, str) and re.fullmatch(r"[a-zA-Z_][\w.-]*", value)
        if not whole and not word:
            raise ValueError(
                f"further keys are whole numbers or words; {name} of {part.op} is {shown(value)}"
            )
    for name, value in zip(("mean", "spread"), cost[:2], strict=True):
        # Sums of them are to be finite in float32, too.
        if value is None and name == "spread":
            continue
        if not isinstance(value, numbers.Real) or not 0 <= value <= _MOST:
            raise ValueError(
                f"{name} of {metric} of {part} is a finite number from 0 to {_MOST:g}, not"
                f" {shown(value)}"
            )
    if cost.count is not None and not _is_whole(cost.count):
        raise ValueError(
            f"count of {metric} of {part} is a whole number of at least 1, not {shown(cost.count)}"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and 1 <= value < 2**31


def _one_line(text: str) -> str:
    """The text without what a spreadsheet adds: commas at the end of a line."""
    return " ".join(text.split()).rstrip(", ")


@checked
def load_table(name_or_path: str | os.PathLike) -> CostTable:
    """Returns the table in a file, or the one in `dnas/hw_loss/tables` with this name.

    Raises:
      ValueError: names the file and the line of what is wrong in it, or the tables that there are.
    """
    path = pathlib.Path(name_or_path)
    shipped = TABLES / f"{name_or_path}.csv"
    if not os.path.isfile(path) and not os.path.isfile(shipped):
        names = ", ".join(table_names()) or "none yet"
        raise ValueError(
            f"there is neither a file {shown(str(path))} nor a table of this name; the tables are:"
            f" {names}"
        )
    path = path if os.path.isfile(path) else shipped
    return read_table(read_text_file(path, most_bytes=_MOST_BYTES), str(path))


def table_names() -> list[str]:
    """Returns the names of the tables that come with the package, for `load_table`."""
    return sorted(path.stem for path in TABLES.glob("*.csv"))


@checked
def read_table(text: str, name: str = "table") -> CostTable:
    """Returns the table in a text that is written as `write_table` has it.

    Lines "# device: ..." come first: device, runtime, unit, batch, date and source. Then a CSV with
    the columns op, channels_in, channels_out, height, width, stride, any further keys, mean, spread
    and count, and "metric" where there are several. `unit` is one unit, or "latency ms, energy mJ".
    Spread, count and further keys may be empty.

    Args:
      name: of the file, for messages.

    Raises:
      ValueError: names the file and the line: for headers or columns that are missing or unknown,
        units of another metric, rows that repeat, negative numbers, NaN, and text where a number
        belongs.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    header, start = _read_header(lines, name)
    _refuse(
        not re.fullmatch("[1-9][0-9]{0,8}", header["batch"]),
        name,
        1,
        f"batch is a whole number, not {shown(header['batch'])}",
    )
    try:
        units = _units(header["unit"])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    columns, cells_of_rows = read_csv(
        lines[start - 1 :], name, ("op", *_SHAPE, *_VALUES), first=start
    )
    wrong = [column for column in columns if not re.fullmatch(r"[a-z]\w*", column)]
    _refuse(wrong, name, start, f"columns have names of small letters; got {shown(wrong)}")
    _refuse(
        "metric" not in columns and len(units) > 1,
        name,
        start,
        f"a column metric is needed to tell apart {', '.join(units)}",
    )
    rows = {}
    for number, cells in cells_of_rows:
        try:
            key, cost = _read_row({column: cell.strip() for column, cell in cells.items()}, units)
            _check_row(*key, cost)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
        _refuse(key in rows, name, number, f"the {key[0]} of {key[1]} is given twice")
        rows[key] = cost
    _refuse(not rows, name, len(lines), "there are no rows")
    own = {key: header[key] for key in ("device", "runtime", "date", "source")}
    try:
        calibrations = dict(
            map(_read_calibration, filter(None, header.get("calibration", "").split("; ")))
        )
        return CostTable(**own, batch=int(header["batch"]), rows=rows, calibrations=calibrations)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _read_header(lines: Sequence[str], name: str) -> tuple[dict[str, str], int]:
    """The lines "# key: text" that come first, and the number of the first line after them."""
    header, start = {}, len(lines)
    known = (*_HEADER, *_OPTIONAL)
    for number, line in enumerate(lines, 1):
        if line.startswith('"#'):  # as a spreadsheet writes a line with quotation marks in it
            line = ",".join(next(csv_rows([line], name, number))[1])
        if line.strip(", ") and not line.startswith("#"):
            start = number
            break
        key, colon, value = line.removeprefix("#").partition(":")
        key = key.strip()
        if colon:
            _refuse(
                key not in known,
                name,
                number,
                f"{shown(key)} is not in a header, which has {known}",
            )
            _refuse(key in header, name, number, f"{key} is given twice")
            header[key] = _one_line(value)
    lacking = [key for key in _HEADER if not header.get(key)]
    _refuse(
        lacking,
        name,
        1,
        f"the header lacks {', '.join(lacking)}; write a line such as '#"
        f" {(lacking or ['unit'])[0]}: ...'",
    )
    return header, start


def _read_calibration(text: str) -> tuple[str, Calibration]:
    """Of "latency = 0.12 + 1.1 sum_pool + 0.98 others + 0.0002 relu_k, from 30 networks", where
    relu_k may be missing."""
    number = r"-?[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?"
    match = re.fullmatch(
        rf"(\w+) = ({number})((?: \+ {number} \w+)+), from ([0-9]{{1,9}}) networks", text.strip()
    )
    if match is None:
        raise ValueError(
            "a calibration is written as 'latency = 0.12 + 1.1 others, from 30 networks', not"
            f" {shown(text)}"
        )
    terms = re.findall(rf"({number}) (\w+)", match[3])
    factors = {op: float(factor) for factor, op in terms}
    if len(factors) < len(terms):
        raise ValueError(f"a calibration has one factor for each op, not {shown(text)}")
    factors[""] = factors.pop("others", 1.0)
    relu = factors.pop(_RELU, 0.0)
    return match[1], Calibration(float(match[2]), factors, int(match[4]), relu)


def _write_calibration(metric: str, own: Calibration) -> str:
    terms = [f"{float(factor)!r} {op or 'others'}" for op, factor in own.factors.items()]
    terms += [f"{float(own.relu)!r} {_RELU}"] if own.relu else []
    return (
        f"{metric} = {' + '.join([repr(float(own.offset)), *terms])}, from {own.networks} networks"
    )


def _refuse(wrong, name: str, number: int, message: str) -> None:
    if wrong:
        raise ValueError(f"{name}, line {number}: {message}")


def _units(text: str) -> dict[str, float]:
    """{metric: factor} of "ms" or "latency ms, energy mJ"."""
    units = {}
    for part in text.split(","):
        *metric, unit = part.split() or [""]
        metrics = metric or [own for own in METRICS if unit in METRICS[own]]
        if len(metrics) != 1 or metrics[0] not in METRICS or metrics[0] in units:
            raise ValueError(
                f"unit {shown(text)} does not say of which metric; write 'latency ms, energy mJ',"
                f" with each of {', '.join(METRICS)} at most once"
            )
        units[metrics[0]] = unit_factor(metrics[0], unit)
    return units


def unit_factor(metric: str, unit: str) -> float:
    """Returns what a number in the unit is multiplied with to be in the base unit of the metric.

    Raises:
      ValueError: for a metric that does not exist, or a unit that is not one of its own.

    Example:
      >>> unit_factor("latency", "us")
      0.001
    """
    if metric not in METRICS:
        raise ValueError(
            f"metric {shown(metric)} does not exist; choose from: {', '.join(METRICS)}"
        )
    if unit not in METRICS[metric]:
        raise ValueError(
            f"unit {shown(unit)} does not fit {metric}; choose from: {', '.join(METRICS[metric])}"
        )
    return METRICS[metric][unit]


def _read_row(
    cells: Mapping[str, str], units: Mapping[str, float]
) -> tuple[tuple[str, Part], Cost]:
    metric = cells.get("metric", next(iter(units)))
    if metric not in units:
        raise ValueError(
            f"metric {shown(metric)} has no unit in the header, which has {', '.join(units)}"
        )
    further = [column for column in cells if column not in ("metric", "op", *_SHAPE, *_VALUES)]
    keys = tuple(
        sorted((column, _whole_or_text(cells[column])) for column in further if cells[column])
    )
    part = Part(cells["op"], *(_number(cells, column, int) for column in _SHAPE), keys=keys)
    spread = _number(cells, "spread", float) * units[metric] if cells["spread"] else None
    count = _number(cells, "count", int) if cells["count"] else None
    return (metric, part), Cost(_number(cells, "mean", float) * units[metric], spread, count)


def _number(cells: Mapping[str, str], column: str, kind: type[Number]) -> Number:
    try:
        return kind(cells[column])
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(
            f"{column} of {cells['op']:.80} is {what}, not {shown(cells[column])}"
        ) from None


def _whole_or_text(cell: str) -> int | str:
    return int(cell) if re.fullmatch(r"-?\d{1,10}", cell) else cell


@checked
def write_table(table: CostTable, path: str | os.PathLike | None = None) -> str:
    """Returns the table as text, which `read_table` reads back to an equal one; with a path it is
    written there as well.

    Raises:
      ValueError: if a cost was interpolated: a table holds what was measured.
    """
    if guessed := [str(part) for (_, part), cost in table.rows.items() if cost.interpolated]:
        raise ValueError(
            f"a table holds what was measured, but these were interpolated: {', '.join(guessed)}"
        )
    names = sorted({name for _, part in table.rows for name, _ in part.keys})
    unit = ", ".join(f"{metric} {next(iter(METRICS[metric]))}" for metric in table.metrics)
    header = {"device": table.device, "runtime": table.runtime, "unit": unit, "batch": table.batch}
    header |= {"date": table.date, "source": table.source}
    if table.calibrations:
        header["calibration"] = "; ".join(
            _write_calibration(metric, own) for metric, own in table.calibrations.items()
        )
    file = io.StringIO()
    file.writelines(f"# {key}: {value}\n" for key, value in header.items())
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["metric", "op", *_SHAPE, *names, *_VALUES])
    for (metric, part), cost in table.rows.items():
        keys = dict(part.keys)
        values = [
            "" if value is None else repr(kind(value))
            for kind, value in zip((float, float, int), cost, strict=False)
        ]
        writer.writerow([metric, *part[:6], *(keys.get(name, "") for name in names), *values])
    if path is not None:
        pathlib.Path(path).write_text(file.getvalue(), encoding="utf-8")
    return file.getvalue()


def merge_tables(*tables: CostTable) -> CostTable:
    """Returns one table with the rows of all: other parts or other metrics of the same device.

    Date and source are those of all, separated by semicolons.

    Raises:
      ValueError: for tables of another device, runtime or batch, and for rows that two of them have
        with different costs.
    """
    if not tables:
        raise ValueError("at least one table is needed")
    first, rows = tables[0], {}
    for table in tables:
        for name in ("device", "runtime", "batch"):
            if getattr(table, name) != getattr(first, name):
                raise ValueError(
                    f"a table is of one device: {name} is {getattr(first, name)!r} in one and"
                    f" {getattr(table, name)!r} in another of these"
                )
        for (metric, part), cost in table.rows.items():
            if rows.setdefault((metric, part), cost) != cost:
                raise ValueError(
                    f"two of the tables have the {metric} of {part}, once {rows[metric, part]} and"
                    f" once {cost}"
                )
    joined = {
        name: "; ".join(dict.fromkeys(getattr(table, name) for table in tables))
        for name in ("date", "source")
    }
    calibrations = {metric: own for table in tables for metric, own in table.calibrations.items()}
    return dataclasses.replace(first, rows=rows, calibrations=calibrations, **joined)
