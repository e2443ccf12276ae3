"""Tables: what is written is read back, what is wrong is refused with its line, and nothing is
guessed unless asked."""

import dataclasses
import math
import time

import pytest

from dnas.hw_loss import (
    METRICS,
    Cost,
    CostTable,
    load_table,
    merge_tables,
    read_table,
    table_names,
    write_table,
)
from dnas.hw_loss.table import unit_factor
from dnas.parts import Part

CONV, SKIP = (
    Part("sep_conv_3x3", 16, 16, 32, 32),
    Part("skip_connect", 16, 32, 8, 4, 2, (("act", "relu6"), ("kernel", 3))),
)
ROWS = {
    ("latency", CONV): Cost(0.1 + 0.2, 1e-17, 50),
    ("latency", SKIP): Cost(0.0),
    ("energy", CONV): Cost(1 / 3, 0.0, 1),
    ("macs", CONV): Cost(123456789012.0, 0.0, 1),
}
TABLE = CostTable("Pi 4", "LiteRT 2.16, 4 threads", 1, "2025-01-31", "issue #6: a test", ROWS)

TEXT = """\
# device: Pi 4
# runtime: LiteRT
# unit: us
# batch: 1
# date: 2025-01-31
# source: none
op,channels_in,channels_out,height,width,stride,kernel,mean,spread,count
conv,3,16,32,32,1,3,1500,20,100

skip,16,16,32,32,1,,2.5,,
"""


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path):
    text = write_table(TABLE, tmp_path / "pi4.csv")
    assert (
        read_table(text)
        == load_table(tmp_path / "pi4.csv")
        == load_table(str(tmp_path / "pi4.csv"))
        == TABLE
    )
    assert write_table(read_table(text)) == text


def test_units_are_converted_to_one_per_metric():
    rows = read_table(TEXT).rows
    assert rows == {
        ("latency", Part("conv", 3, 16, 32, 32, 1, (("kernel", 3),))): Cost(1.5, 0.02, 100),
        ("latency", Part("skip", 16, 16, 32, 32)): Cost(0.0025),
    }
    in_seconds = TEXT.replace("unit: us", "unit: latency s").replace(
        ",1500,20,100", ",0.0015,2e-5,100"
    )
    in_seconds = in_seconds.replace("2.5,,", "2.5e-6,,")
    for key, cost in read_table(in_seconds).rows.items():
        assert cost.mean == pytest.approx(rows[key].mean, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_first_unit_of_a_metric_is_its_base_and_those_of_others_are_refused(metric):
    assert unit_factor(metric, next(iter(METRICS[metric]))) == 1
    strange = "ms" if metric != "latency" else "mJ"
    with pytest.raises(ValueError, match=f"unit '{strange}' does not fit {metric}; choose from"):
        unit_factor(metric, strange)


# What is wrong: (what to replace, by what, the line named, what else the message says)
WRONG = {
    "no device": ("# device: Pi 4\n", "", 1, "lacks device"),
    "no unit": ("# unit: us\n", "", 1, "lacks unit"),
    "a unit of nothing": ("unit: us", "unit: parsecs", None, "'parsecs'"),
    "bytes may be three metrics": ("unit: us", "unit: MiB", None, "does not say of which metric"),
    "a unit of another metric": ("unit: us", "unit: latency mJ", None, "'mJ' does not fit latency"),
    "a header line that does not exist": (
        "# source",
        "# author: me\n# source",
        6,
        "'author' is not in a header",
    ),
    "a header line twice": ("# source", "# batch: 2\n# source", 6, "batch is given twice"),
    "batch": ("batch: 1", "batch: one", 1, "batch is a whole number"),
    "no stride": ("width,stride,", "width,", 7, "there is no column 'stride'"),
    "a column twice": (",kernel,", ",stride,", 7, "each once"),
    "a column without a name": (",kernel,", ",,", 7, "names of small letters"),
    "a cell too few": ("conv,3,16", "conv,16", 8, "9 cells, but 10 columns"),
    "negative mean": ("1500", "-1500", 8, "mean of latency of conv 3->16"),
    "negative spread": (",20,", ",-20,", 8, "spread of latency of conv"),
    "NaN": ("1500", "nan", 8, "finite number"),
    "infinite": ("1500", "inf", 8, "finite number"),
    "text for a number": ("1500", "fast", 8, "mean of conv is a number, not 'fast'"),
    "half a channel": ("conv,3,", "conv,3.5,", 8, "channels_in of conv is a whole number"),
    "no mean": ("2.5,,", ",,", 10, "mean of skip is a number, not ''"),
    "stride 0": ("32,32,1,3", "32,32,0,3", 8, "stride of conv"),
    "no op": ("skip,16", ",16", 10, "an op is named by"),
    "a count of 0": (",100", ",0", 8, "count of latency"),
    "a cost beyond float32": ("1500", "1e40", 8, "a finite number from 0 to 1e.30, not 1.0"),
    "a size beyond int32": ("32,32,1,3", "4294967296,32,1,3", 8, "height of conv is a whole"),
    "a size of 400 digits": ("conv,3,", f"conv,{'1' * 400},", 8, "channels_in of conv is a whole"),
    "a size of 5000 digits": (
        "conv,3,",
        f"conv,{'1' * 5000},",
        8,
        "channels_in of conv is a whole",
    ),
    "a count of 400 digits": (",100", f",{'1' * 400}", 8, "count of latency"),
    "a key of 400 digits": (",3,1500", f",{'1' * 400},1500", 8, "kernel of conv is '1111"),
    "batch of 400 digits": ("batch: 1", "batch: 1" + "0" * 400, 1, "batch is a whole number"),
    "a cell too long": ("conv,", "c" * 200_000 + ",", 8, "not CSV: field larger than"),
    "a quoted header too long": ("# source", '"#' + "c" * 200_000, 6, "not CSV: field larger"),
    "a row twice": ("\n\n", "\nconv,3,16,32,32,1,3,7,,\n", 9, "is given twice"),
    "another metric in a cell": ("op,", "metric,op,", 8, "9 cells|10 cells"),
    "no rows": (TEXT[TEXT.index("conv,3") :], "", 7, "no rows"),
    "several units, no column": (
        "unit: us",
        "unit: latency us, energy mJ",
        7,
        "column metric is needed",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_text_is_refused_with_file_and_line(name):
    old, new, line, message = WRONG[name]
    assert old in TEXT
    with pytest.raises(ValueError, match=message) as caught:
        read_table(TEXT.replace(old, new, 1), "pi4.csv")
    assert str(caught.value).startswith("pi4.csv" if line is None else f"pi4.csv, line {line}:")


SPREADSHEETS = {
    # Every line as long as the longest, which is that of the columns.
    "excel": lambda lines: [line + "," * (9 - line.count(",")) for line in lines],
    "marked": lambda lines: ["\ufeff" + lines[0], *lines[1:]],
    "only some lines": lambda lines: [line.replace("batch: 1", "batch: 1,,,,") for line in lines],
    "quoted": lambda lines: [f'"{line}",,' if line.startswith("#") else line for line in lines],
}


@pytest.mark.parametrize("program", SPREADSHEETS)
@pytest.mark.parametrize("text", [TEXT, write_table(TABLE)], ids=["one unit", "several metrics"])
def test_a_table_that_went_through_a_spreadsheet_is_read_alike(program, text):
    changed = "\n".join(SPREADSHEETS[program](text.splitlines()))
    assert changed + "\n" != text and read_table(changed) == read_table(text)


def test_quotation_marks_in_a_header_come_back_from_a_spreadsheet():
    """It puts the line in quotation marks, and doubles those in it."""
    text = write_table(dataclasses.replace(TABLE, source='dnas table --device="a b"'))
    line = '# source: dnas table --device="a b"'
    assert line in text
    changed = text.replace(line, '"# source: dnas table --device=""a b""",,,')
    assert read_table(changed) == read_table(text)


def test_a_calibration_is_read_in_linear_time_and_has_one_factor_an_op():
    """20,000 digits took three seconds."""
    for text, reason in (
        ("latency = " + "1" * 10**5, "a calibration is written as"),
        ("latency = 1 + 1 others, from " + "1" * 10**5 + " networks", "is written as"),
        ("latency = 1" + " + 1 a" * 10**4, "is written as"),
        ("latency = 1 + 1 a + 2 a + 1 others, from 30 networks", "one factor for each op"),
        ("latency = 1e999 + 1 others, from 30 networks", "has finite numbers"),
    ):
        start = time.process_time()
        with pytest.raises(ValueError, match=reason):
            read_table(TEXT.replace("# source", f"# calibration: {text}\n# source"))
        assert time.process_time() - start < 1


def test_a_metric_without_a_unit_is_refused():
    text = write_table(TABLE).replace("energy,sep", "peak_memory,sep")
    with pytest.raises(
        ValueError, match=r"line 10: metric 'peak_memory' has no unit in the header"
    ):
        read_table(text)


def test_every_missing_part_is_named_in_one_error():
    lacking = [Part("dil_conv_3x3", 8, 8, 4, 4), Part("sep_conv_5x5", 8, 8, 4, 4)]
    with pytest.raises(ValueError, match="lacks 2 of 3 parts") as caught:
        TABLE.costs([CONV, *lacking], "latency")
    assert all(str(part) in str(caught.value) for part in lacking) and str(CONV) not in str(
        caught.value
    )
    with pytest.raises(ValueError, match="energy table of Pi 4 lacks 1 of 1"):
        TABLE.costs([SKIP], "energy")


def test_a_metric_is_named_unless_there_is_one():
    assert read_table(TEXT).metric() == "latency"
    with pytest.raises(ValueError, match="metrics latency, energy, macs; name one, not None"):
        TABLE.costs([CONV])
    with pytest.raises(ValueError, match="not 'params'"):
        TABLE.metric("params")


def size(height, width, op="conv", channels=8):
    return Part(op, channels, channels, height, width)


def test_interpolation_is_linear_in_positions_only_where_asked_and_marked():
    rows = {("latency", size(4, 4)): Cost(1.0, 0.1, 5), ("latency", size(8, 8)): Cost(4.0, 0.1, 5)}
    rows |= {
        ("latency", size(16, 16)): Cost(100.0),
        ("latency", size(4, 4, channels=9)): Cost(50.0),
    }
    table = dataclasses.replace(TABLE, rows=rows)
    with pytest.raises(ValueError, match="ask for interpolate=True"):
        table.costs([size(4, 8)])
    measured, between = table.costs([size(4, 4), size(4, 8)], interpolate=True)
    assert measured == Cost(1.0, 0.1, 5) and not measured.interpolated
    assert (
        between.interpolated
        and between.mean == pytest.approx(1 + 3 * (32 - 16) / (64 - 16))
        and between.spread is None
    )
    # A size that was measured as another rectangle of as many positions costs as much.
    assert table.costs([size(2, 8)], interpolate=True)[0].mean == 1.0


@pytest.mark.parametrize(
    "part", [size(2, 2), size(32, 32), size(6, 6, op="pool"), size(6, 6, channels=10)]
)
def test_nothing_is_extrapolated_or_taken_from_another_op(part):
    rows = {("latency", size(4, 4)): Cost(1.0), ("latency", size(8, 8)): Cost(4.0)}
    with pytest.raises(ValueError, match="lacks 1 of 1"):
        dataclasses.replace(TABLE, rows=rows).costs([part], interpolate=True)


def test_an_interpolated_cost_is_not_written():
    table = dataclasses.replace(TABLE, rows={("latency", CONV): Cost(1.0, interpolated=True)})
    with pytest.raises(ValueError, match="these were interpolated"):
        write_table(table)


def test_merging_joins_metrics_and_parts_and_is_undone_by_none():
    first = dataclasses.replace(TABLE, rows=dict(list(ROWS.items())[:2]), date="2025-01-30")
    second = dataclasses.replace(TABLE, rows=dict(list(ROWS.items())[1:]))
    merged = merge_tables(first, second)
    assert (
        merged.rows == ROWS
        and merged.date == "2025-01-30; 2025-01-31"
        and merged.source == TABLE.source
    )
    assert merge_tables(TABLE) == merge_tables(TABLE, TABLE) == TABLE


def test_merging_refuses_another_device_and_another_cost():
    with pytest.raises(ValueError, match="device is 'Pi 4' in one and 'Pi 5'"):
        merge_tables(TABLE, dataclasses.replace(TABLE, device="Pi 5"))
    other = dataclasses.replace(TABLE, rows={("latency", CONV): Cost(7.0)})
    with pytest.raises(ValueError, match="latency of sep_conv_3x3"):
        merge_tables(TABLE, other)


BAD_ROWS = {
    "metric": (("speed", CONV), Cost(1.0), "metric 'speed'"),
    "nan": (("latency", CONV), Cost(math.nan), "finite"),
    "key named as a column": (
        ("latency", CONV._replace(keys=(("mean", 3),))),
        Cost(1.0),
        "names of their own",
    ),
    "keys out of order": (
        ("latency", CONV._replace(keys=(("b", 3), ("a", 3)))),
        Cost(1.0),
        "sorted",
    ),
    "a key that is read as a number": (
        ("latency", CONV._replace(keys=(("a", "3"),))),
        Cost(1.0),
        "whole numbers or words",
    ),
    "a fraction of a channel": (
        ("latency", CONV._replace(channels_in=2.0)),
        Cost(1.0),
        "channels_in",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_table_that_could_not_be_read_back_is_not_made(name):
    key, cost, message = BAD_ROWS[name]
    with pytest.raises(ValueError, match=message):
        CostTable("a", "b", 1, "c", "d", {key: cost})


@pytest.mark.parametrize(
    "change",
    [
        {"device": "two\nlines"},
        {"source": ""},
        {"source": "a, b,"},
        {"batch": 0},
        {"batch": 2**31},
        {"rows": {}},
    ],
)
def test_a_header_that_could_not_be_read_back_is_not_made(change):
    with pytest.raises(ValueError, match=r"text on one line|number of images|without rows"):
        dataclasses.replace(TABLE, **change)


def test_an_unknown_table_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="neither a file 'no_such_device' nor a table") as caught:
        load_table("no_such_device")
    assert all(name in str(caught.value) for name in table_names())
    (tmp_path / "x.csv").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        load_table(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text(TEXT, encoding="utf-16")
    with pytest.raises(ValueError, match="save it as UTF-8"):
        load_table(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="neither a file"):
        load_table("a" * 1000)


@pytest.mark.parametrize("name", table_names())
def test_the_tables_of_the_package_load(name):
    assert load_table(name).rows
