"""Benchmarks from files: what was written comes back, and a mistake is reported with its line."""

import gzip

import jax
import numpy as np
import pytest
from tables import OPS, cell, space

import dnas
from dnas.tabular import Benchmark, load_benchmark

ONE, TWO = cell("3x3 none 1x1 skip none avg"), cell("skip skip skip skip skip skip")
GOOD = f"index,arch,accuracy,latency_ms\n0,{ONE},93.5,2.25\n1,{TWO},54.3,0.125\n"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_metrics_are_all_other_columns_but_the_index(tmp_path):
    table = load_benchmark(write(tmp_path / "a.csv", GOOD), space=space())
    assert table.query(TWO) == {"accuracy": 54.3, "latency_ms": 0.125}
    assert table.costs == {"latency_ms"} and len(table) == 2


@pytest.mark.parametrize("row_numbers", ["", "index", "Unnamed: 0"])
def test_row_numbers_of_pandas_are_no_metric(row_numbers, tmp_path):
    """`frame.to_csv(path)` writes them first, without a name; read and written again they have
    one."""
    text = f"{row_numbers},arch,accuracy\n0,{ONE},93.5\n1,{TWO},54.3\n"
    table = load_benchmark(write(tmp_path / "a.csv", text))
    assert list(table.metrics) == ["accuracy"] and table.metric() == "accuracy"
    assert table.best("accuracy").to_text() == ONE


def test_columns_may_be_chosen_and_others_then_hold_anything(tmp_path):
    text = "model,note,top1\n" + f"{ONE},good,93.5\n{TWO},,54.3\n"
    table = load_benchmark(
        write(tmp_path / "a.csv", text), column="model", metrics=["top1"], costs=["top1"]
    )
    assert table.query(ONE) == {"top1": 93.5} and table.best("top1").to_text() == TWO


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_what_was_written_comes_back_to_the_last_bit(tmp_path, name):
    table = load_benchmark(write(tmp_path / "first.csv", GOOD))
    odd = Benchmark(table.genotypes, {"a": [1 / 3, 1e-300], 'b, "c"': [-0.0, 2.0**60]})
    odd.write(tmp_path / name)
    again = load_benchmark(tmp_path / name)
    assert again.genotypes == odd.genotypes and list(again.metrics) == list(odd.metrics)
    assert all(
        again.metrics[metric].tobytes() == odd.metrics[metric].tobytes() for metric in odd.metrics
    )
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b"ar")


def test_genotypes_of_any_notation_come_back(tmp_path):
    published = [dnas.PUBLISHED["DARTS_V1"], dnas.PUBLISHED["DARTS_V2"]]
    Benchmark(published, {"accuracy": [97.0, 97.24]}).write(tmp_path / "a.csv")
    assert load_benchmark(tmp_path / "a.csv", space=dnas.SPACES["darts"]).genotypes == tuple(
        published
    )
    named = [
        dnas.Genotype("mine", {"cell": [(0, 1, "x")]}),
        dnas.Genotype("mine", {"cell": [(0, 1, "y")]}),
    ]
    Benchmark(named, {"accuracy": [1, 2]}).write(tmp_path / "b.csv")
    assert load_benchmark(tmp_path / "b.csv").genotypes == tuple(named)


def test_marks_of_other_programs_are_no_matter(tmp_path):
    """A byte order mark, carriage returns, blank lines and quotes."""
    text = GOOD.replace("\n", "\r\n").replace(ONE, f'"{ONE}"') + "\r\n"
    table = load_benchmark(write(tmp_path / "a.csv", text, "utf-8-sig"))
    np.testing.assert_array_equal(table.metrics["accuracy"], [93.5, 54.3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there is no column 'arch'; its columns are: none"),
        (
            GOOD.replace("arch", "cell"),
            "line 1: there is no column 'arch'; its columns are: index, cell, accuracy",
        ),
        (GOOD.replace("latency_ms", "accuracy"), "line 1: columns .* given twice: .'accuracy'"),
        (GOOD.split("\n")[0], "no line after its first"),
        (f"arch\n{ONE}\n", "needs columns of metrics beside 'arch'"),
        (f",arch,index\n0,{ONE},0\n", "needs columns of metrics beside 'arch'"),
        (GOOD.replace("54.3", "n/a"), "line 3, column 'accuracy' holds 'n/a'"),
        (GOOD.replace("54.3", ""), "line 3, column 'accuracy' holds ''"),
        (
            GOOD.replace("2.25", "nan"),
            "line 2, column 'latency_ms' holds 'nan', not a finite number",
        ),
        (GOOD.replace("2.25", "1e999"), "line 2, column 'latency_ms' holds '1e999'"),
        (GOOD.replace("2.25", "9" * 400), "line 2, column 'latency_ms' holds '999"),
        (GOOD.replace(TWO, ONE), "line 3 is the same as .*a.csv, line 2: .nor_conv_3x3~0"),
        (
            GOOD.replace(TWO, "|skip_connect~0"),
            "line 3, column 'arch': node 1 of the NAS-Bench-201 string",
        ),
        (
            GOOD.replace("avg_pool_3x3", "max_pool_9x9"),
            "line 2, column 'arch': op 'max_pool_9x9'.*choose from: none",
        ),
        (GOOD + "2,|none~0|\n", "line 4: 2 cells, but 4 columns"),
        (GOOD.replace(TWO, '"' + TWO), "line [34]: this is not CSV"),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"(a.csv, |a.csv has |a.csv ){message}"):
        load_benchmark(write(tmp_path / "a.csv", text), space=space())


def test_architectures_of_another_space_are_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match="line 2, column 'arch': the genotype has cells of kind .'cell'.; the space 'darts'",
    ):
        load_benchmark(write(tmp_path / "a.csv", GOOD), space=dnas.SPACES["darts"])


@pytest.mark.parametrize("name", ["s1", "s4"])
def test_architectures_of_a_space_without_a_notation_of_its_own_are_of_it(name, tmp_path):
    """The cells of RobustDARTS are published in that of DARTS."""
    genotypes = [dnas.random_genotype(jax.random.key(n), dnas.SPACES[name]) for n in range(3)]
    texts = [genotype.to_text() for genotype in genotypes]
    rows = [f'"{text}",{number}' for number, text in enumerate(texts)]
    write(tmp_path / "a.csv", "\n".join(["arch,accuracy", *rows]))
    table = load_benchmark(tmp_path / "a.csv", space=dnas.SPACES[name])
    assert table.genotypes == tuple(genotypes)
    assert [table.query(text)["accuracy"] for text in texts] == [0, 1, 2]
    assert texts[1] in table and table.best("accuracy") == genotypes[2]


def test_ops_are_those_of_the_space(tmp_path):
    path = write(tmp_path / "a.csv", GOOD.replace("avg_pool_3x3", "my_op"))
    assert (
        len(load_benchmark(path, space=space(ops=(*OPS, "my_op"))))
        == len(load_benchmark(path))
        == 2
    )


def test_the_error_for_a_missing_file_says_where_one_is_published(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"no file .*none\.csv.*github.com/D-X-Y/NAS-Bench-201 and .*NATS-Bench.*from_nats",
    ):
        load_benchmark(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no file"):
        load_benchmark(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95\xff",
        b"\x1f\x8b",
        gzip.compress(GOOD.encode())[:-9],
        gzip.compress(GOOD.encode())[:30] + b"x" * 30,
    ],
    ids=["pickle", "head alone", "cut", "spoiled"],
)
def test_a_file_of_another_kind_or_cut_short_is_refused(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="(not text in UTF-8|cannot be read).*from_nats"):
        load_benchmark(tmp_path / "a.csv.gz")
