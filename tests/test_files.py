"""Files that people give: read alike whatever wrote them, or refused with a reason."""

import csv
import gzip
import io
import json
import tracemalloc

import pytest

from dnas import files

TEXT = "name,ms\nµ-net,1.5\n"

SAVED = {
    "as it is": TEXT.encode(),
    "by a spreadsheet": TEXT.encode("utf-8-sig"),
    "on Windows": TEXT.replace("\n", "\r\n").encode(),
    "on old Macs": TEXT.replace("\n", "\r").encode(),
    "compressed": gzip.compress(TEXT.encode("utf-8-sig")),
}


@pytest.mark.parametrize("how", SAVED)
def test_what_wrote_a_text_makes_no_difference(how, tmp_path):
    (tmp_path / "a.csv").write_bytes(SAVED[how])
    assert files.read_text_file(tmp_path / "a.csv") == TEXT


REFUSED = {
    "powershell": (TEXT.encode("utf-16"), "UTF-16, as PowerShell .*save it as UTF-8"),
    "big end first": (
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        "UTF-16, as PowerShell .*save it as UTF-8",
    ),
    "without a mark": (TEXT.encode("utf-16-le"), "UTF-16.*save it as UTF-8"),
    "latin": (TEXT.encode("latin1"), r"not text in UTF-8 \(byte 0xb5 in line 2\); save it as"),
    "pickle": (b"\x80\x04\x95", r"not text in UTF-8 \(byte 0x80 in line 1\)"),
    "cut": (gzip.compress(TEXT.encode() * 99)[:-9], "cannot be read: Compressed file ended"),
    "spoiled": (gzip.compress(TEXT.encode() * 99)[:-12] + b"x" * 12, "cannot be read: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_with_what_to_do(name, tmp_path):
    content, reason = REFUSED[name]
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        files.read_text_file(tmp_path / "a.csv")
    assert str(caught.value).startswith(str(tmp_path / "a.csv"))


def test_what_is_no_file_is_refused_by_its_name(tmp_path):
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / ("a" * 300), "File name too long"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(ValueError, match=f"cannot be read: .*{reason}"):
            files.read_text_file(path)


@pytest.mark.parametrize("packed", [False, True])
def test_no_more_is_in_memory_than_may_be_read(packed, tmp_path):
    zeros = b"0" * 10**8
    (tmp_path / "a").write_bytes(gzip.compress(zeros) if packed else zeros)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="holds more than 1,000,000 bytes"):
            files.read_text_file(tmp_path / "a", most_bytes=10**6)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def rows_of(text, **options):
    columns, rows = files.read_csv(io.StringIO(text), "a.csv", **options)
    return columns, list(rows)


def test_a_csv_reads_as_the_standard_library_reads_it():
    text = 'a,"b, c",d\n1,"two\nlines",3\n\n4,"say ""so""",6\n'
    expected = list(csv.DictReader(io.StringIO(text)))
    columns, rows = rows_of(text)
    assert columns == ["a", "b, c", "d"] and [cells for _, cells in rows] == expected
    assert [line for line, _ in rows] == [3, 5]  # where they end


def test_empty_cells_that_a_spreadsheet_adds_are_left_out():
    """It makes all lines as long as the longest, empty ones too."""
    assert rows_of("a,b,,\n1,,,\n,,,\n3,4,,\n") == rows_of("a,b\n1,\n\n3,4\n")


WRONG = {
    "a column twice": ("a,b,a\n", r"line 1: columns have names, each once; given twice: \['a'\]"),
    "a cell too few": ("a,b\n1\n", "line 2: 1 cells, but 2 columns"),
    "a cell too many": ("a,b\n1,2\n1,2,3\n", "line 3: 3 cells, but 2 columns"),
    "a column without a name": ("a,b,\n1,2,3\n", "line 2: 3 cells, but 2 columns"),
    "no end": ('a\n"b\n', "line 2: this is not CSV"),
    "a long cell": (f"a\n{'b' * 200_000}\n", "line 2: this is not CSV: field larger than"),
    "another column": ("b\n1\n", "line 1: there is no column 'a'; its columns are: b"),
    "columns without end": ("a," * 20_000 + "a", "line 1: 20,001 columns, but at most 10,000"),
    "nothing": ("", "line 1: there is no column 'a'; its columns are: none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_csv_is_refused_with_its_line(name):
    text, reason = WRONG[name]
    with pytest.raises(ValueError, match=f"a.csv, {reason}"):
        rows_of(text, needed=["a"])


def test_json_reads_as_the_standard_library_reads_it_but_refuses_a_name_given_twice():
    tree = {"a": [1, 2.5, None], "b": {"a": "x"}}
    assert files.read_json("\ufeff" + json.dumps(tree), "it") == tree
    with pytest.raises(ValueError, match="it is not valid JSON: the name 'a' is given twice"):
        files.read_json('{"a": 1, "b": 2, "a": 3}', "it")


def test_what_is_no_json_is_refused():
    for text in ("", "{", "[" * 10**5, "9" * 10_000, '{"a": tru}'):
        with pytest.raises(ValueError, match="it is not valid JSON"):
            files.read_json(text, "it")


NESTED = []
for _ in range(100_000):
    NESTED = [NESTED]
SHARED = ["a"]
for _ in range(40):
    SHARED = [SHARED] * 10


def test_what_is_shown_is_short_whatever_it_is():
    for value in (NESTED, SHARED, "a" * 10**7, 10**10_000, {"a": 10**10_000}):
        assert 0 < len(files.shown(value)) <= 120
