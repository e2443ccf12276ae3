"""`dnas study` compares methods in a tabular benchmark, and continues where it was stopped."""

import itertools
import json

import pytest

import dnas
from dnas.app import study
from dnas.baselines import baselines
from dnas.tabular import Benchmark, load_benchmark

OPS = dnas.SPACES["nasbench201"].cells["cell"].ops if "nasbench201" in dnas.SPACES else ()


def cell(ops):
    first, second, third, *last = (
        f"{op}~{source}" for op, source in zip(ops, (0, 0, 1, 0, 1, 2), strict=True)
    )
    return f"|{first}|+|{second}|{third}|+|{'|'.join(last)}|"


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory):
    """All cells of the space, each with the number of its convolutions for an accuracy."""
    path = tmp_path_factory.mktemp("benchmark") / "all.csv"
    rows = [
        f"{cell(ops)},{sum('conv' in op for op in ops)}" for ops in itertools.product(OPS, repeat=6)
    ]
    path.write_text("\n".join(["arch,accuracy", *rows]) + "\n")
    return path


def test_the_table_has_means_spreads_and_random_draws(tmp_path):
    genotypes = [
        dnas.Genotype.from_text(cell([op] * 6))
        for op in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
    ]
    benchmark = Benchmark(genotypes, {"accuracy": [10.0, 54.0, 89.0, 94.0]})

    def run(value):
        return {"value": value, "rank": 2, "skips": {"cell": 6}, "seconds": 60.0}

    beside = baselines(dnas.SPACES["nasbench201"], benchmark, "accuracy", trials=2)
    found = {"darts1": [run(54.0), run(94.0)], "gdas": [run(89.0)], "drnas": []}
    summary = study.summarise(found, beside, benchmark, "accuracy")
    lines = study.table(summary).splitlines()
    start = "| darts1 | 74.00 +- 28.28 [-180.12 to 328.12], n = 2 (seeds of the search) |"
    assert lines[2] == f"{start} 54.00, 94.00 | 2 | 6, 6 | 60 |"
    assert lines[3].startswith("| gdas | 89.00, n = 1 (seeds of the search) | 89.00 |")
    assert lines[4].startswith("| *one random network* | 61.75 +- 38.82 [-0.02 to 123.52], n = 4")
    assert lines[7].startswith("| *most multiply-adds* | 94.00 |")
    assert lines[8].startswith("| *skips alone* | 54.00 |")
    assert lines[9].startswith("| *the best of all* | 94.00 |")
    assert len({line.count("|") for line in lines[:10]}) == 1
    assert "n - 1" in lines[11] and "In italics" in lines[11]
    assert not any("drnas" in line for line in lines)
    # What one or two seeds show beside what is known without error: nothing, and that is said.
    assert (
        lines[13] == "| mean less that of | *one random network* | *most multiply-adds* | RI, % |"
    )
    darts1, gdas = lines[15:17]
    assert (
        "| +12.25 [-241.87 to +266.37], n = 2 cannot show a difference (smallest p 0.5) |" in darts1
    )
    assert darts1.endswith("| +19.84 |") and " -20.00 [" in darts1
    assert "| +27.25, n = 1 cannot show a difference (smallest p 1) |" in gdas
    assert len({line.count("|") for line in lines[13:17]}) == 1 and "RI" in lines[-1]
    # A study that was run is printed again from its file alone.
    file = tmp_path / "study.json"
    file.write_text(json.dumps({**summary, "command": "dnas study --seeds=2"}))
    assert study.shown(file) == f"    dnas study --seeds=2\n\n{study.table(summary)}"


def test_mistakes_are_said_before_any_search(tmp_path, capsys):
    several = tmp_path / "several.csv"
    several.write_text(f"arch,ms,accuracy\n{cell(OPS[:1] * 6)},1.5,90\n")
    for args, message in (
        ([f"--benchmark={several}"], "the metrics ms, accuracy; name one, not None"),
        ([f"--benchmark={several}", "--metric=top1"], "accuracy; name one, not 'top1'"),
        ([], "give --benchmark=FILE, or --show=study.json"),
        ([f"--show={several}"], "several.csv is no study.json"),
        (["--show=nowhere.json"], "nowhere.json"),
        (["--benchmark=nowhere.csv", "--space=nothing"], "space 'nothing' is not known"),
        (["--benchmark=nowhere.csv", "--space=darts"], "nowhere.csv"),
        (["--benchmark=nowhere.csv", "--seeds=0"], "seeds is a number of at least 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            study.main([*args, f"--runs={tmp_path / 'runs'}"])
        assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_study_continues_and_does_nothing_twice(benchmark_file, tmp_path):
    args = [
        f"--benchmark={benchmark_file}",
        f"--runs={tmp_path}",
        "--methods=darts1,random",
        "--seeds=1",
        "--steps=2",
    ]
    args += ["--channels=4", "--cells=3", "--images=200", "--batch-size=16", "--epochs=1"]
    study.main(args)
    done = json.loads((tmp_path / "study" / "study.json").read_text())
    accuracies = load_benchmark(benchmark_file, space=dnas.SPACES["nasbench201"])
    for own in done["methods"].values():
        (run,) = own["runs"]
        assert run["value"] == accuracies.query(run["genotype"])["accuracy"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("phases/*.json")}
    assert len(before) == 2
    study.main([*args, "--seeds=2"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [
        len(own["runs"])
        for own in json.loads((tmp_path / "study" / "study.json").read_text())["methods"].values()
    ] == [
        2,
        2,
    ]
