"""`dnas fit`: reads measurements, fits some, scores the others."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import dnas
from dnas.app import fit
from dnas.hw_loss import CostModel

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nasbench201.csv.gz"
COLUMNS = ("pi5_litert_latency_ms", "pi5_litert_energy_mj", "pixel_litert_latency_ms")


@pytest.fixture(autouse=True)
def no_shared_cache(monkeypatch):
    """Leaves the compilation cache of the tests as conftest.py sets it."""
    monkeypatch.setattr("dnas.app.fit.set_up_process", lambda: None)


def text_of(choices):
    edges = [f"{op}~{source}" for op, (source, _) in zip(choices, fit.SPEC.edges, strict=True)]
    return "+".join(f"|{'|'.join(group)}|" for group in (edges[:1], edges[1:3], edges[3:]))


def table(costs=None, *, rows=60, arch=None):
    random = np.random.default_rng(0)
    cells = [random.choice(fit.SPEC.ops, 6) for _ in range(rows)]
    costs = costs or [
        str(1 + 2.0 * sum(cell[3:4] == "nor_conv_3x3") + sum(cell == "avg_pool_3x3"))
        for cell in cells
    ]
    archs = [arch or text_of(cell) for cell in cells]
    return (
        "\n".join(["arch,ms", *(f"{cell},{cost}" for cell, cost in zip(archs, costs, strict=True))])
        + "\n"
    )


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_prints_one_line_of_json_and_saves_the_model(tmp_path, capsys, suffix):
    path = tmp_path / f"measured{suffix}"
    path.write_bytes(gzip.compress(table().encode()) if suffix == ".csv.gz" else table().encode())
    fit.main(
        [
            f"--csv={path}",
            "--column=ms",
            "--samples=40",
            "--seed=3",
            f"--save={tmp_path / 'model.json'}",
        ]
    )
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    parts = {"kendall", "spearman", "mape", "r2", "live_macs", "seconds"}
    assert set(found) == parts | {"samples", "seed", "column", "predictor"}
    assert (found["samples"], found["seed"], found["column"]) == (40, 3, "ms") and found[
        "seconds"
    ] > 0
    model = CostModel.from_json((tmp_path / "model.json").read_text())
    mixes, costs = fit.read_measurements(path, "ms")
    rest = np.random.default_rng(3).permutation(60)[40:]
    scores = fit.score(fit.predict(model, mixes[rest]), costs[rest])
    assert scores == {name: found[name] for name in scores}
    assert found["live_macs"] == fit.order(fit.live_macs(mixes[rest]), costs[rest])


@pytest.mark.parametrize("name", fit.PREDICTORS)
def test_predictors_order_the_rows_that_they_have_not_seen(tmp_path, capsys, name):
    path = tmp_path / "measured.csv"
    path.write_text(table(rows=120))
    fit.main([f"--csv={path}", "--column=ms", "--samples=80", f"--predictor={name}"])
    found = json.loads(capsys.readouterr().out)
    assert "mape" not in found and found["kendall"] > 0.6 and found["predictor"] == name


def test_live_multiply_adds_are_those_of_the_network():
    random, space = np.random.default_rng(0), dnas.SPACES["nasbench201"]
    counts = dnas.hw_loss.count_table(space)
    cells = random.integers(0, 5, (5, 6))
    for cell, macs in zip(cells, fit.live_macs(np.eye(5, dtype=np.float32)[cells]), strict=True):
        genotype = dnas.Genotype.from_text(text_of([fit.SPEC.ops[column] for column in cell]))
        exact = dnas.hw_loss.genotype_cost(counts, space, genotype, metric="macs", live="path")
        assert macs == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (table(), ["--column=watts"], "no column 'watts'; its columns are: arch, ms"),
        (table().replace("arch,", "cell,"), [], "no column 'arch'"),
        ("", [], "no column 'arch'; its columns are: none"),
        (table(["nan"] * 60), [], "line 2: ms is 'nan', not a positive number"),
        (table([*["1"] * 7, "-2", *["1"] * 52]), [], "line 9: ms is '-2'"),
        (table(["fast"] * 60), [], "ms is 'fast'"),
        (table(arch="|conv~0|"), [], "line 2: arch is '|conv~0|'; it needs the edges of"),
        (table(arch="nonsense"), [], "line 2: this is not a genotype"),
        (table(), ["--samples=59"], "--samples is 20 to 58 for 60 rows"),
        (table(), ["--samples=19"], "--samples is 20 to 58 for 60 rows"),
        (table(), ["--seed=-1"], "--seed is 0 or more"),
        (table(), ["--save=/tmp/model.json", "--predictor=ridge"], "--save writes a cost model"),
        (table(), ["--save=/no/such/folder/model.json"], "/no/such/folder is not a folder"),
    ],
)
def test_mistakes_end_the_command_with_what_to_do(tmp_path, content, flags, message):
    path = tmp_path / "measured.csv"
    path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        fit.main([f"--csv={path}", "--column=ms", "--samples=30", *flags])
    assert message in str(stopped.value)


def test_a_file_that_is_not_there_or_not_a_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="missing.csv cannot be read"):
        fit.read_measurements(tmp_path / "missing.csv", "ms")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(table().encode())[:-20])
    with pytest.raises(ValueError, match="cut.csv.gz cannot be read"):
        fit.read_measurements(tmp_path / "cut.csv.gz", "ms")


def test_a_table_is_read_alike_whatever_its_name_and_what_wrote_it(tmp_path):
    """Compressed or not, with pandas' row numbers, from a spreadsheet."""
    lines = table().splitlines()
    numbered = "\n".join(
        f"{number - 1 if number else ''},{line}" for number, line in enumerate(lines)
    )
    (tmp_path / "plain.csv").write_text(table())
    (tmp_path / "named.csv.gz").write_text(table())
    (tmp_path / "pandas.csv").write_bytes(gzip.compress(numbered.encode()))
    (tmp_path / "sheet.csv").write_text(
        "\r\n".join(line + ",," for line in lines), encoding="utf-8-sig"
    )
    first, *others = (fit.read_measurements(path, "ms") for path in sorted(tmp_path.iterdir()))
    for mixes, costs in others:
        assert np.array_equal(mixes, first[0]) and np.array_equal(costs, first[1])


def test_scores_are_those_of_the_definitions():
    costs, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 3.0])
    assert fit.score(predicted, costs) == {
        "kendall": 0.33333,
        "spearman": 0.5,
        "mape": 0.41667,
        "r2": round(1 - 5 / (14 / 3), 5),
    }
    assert fit.score(predicted, np.ones(3))["kendall"] is None


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED} is not here")
@pytest.mark.parametrize("column", COLUMNS)
def test_500_of_15625_cells_rank_the_others(column):
    mixes, costs = fit.read_measurements(SHARED, column)
    assert len(costs) == 15625
    found = []
    for seed in range(2):
        _, scores = fit.fit_and_score(mixes, costs, samples=500, seed=seed)
        assert scores["mape"] < 0.15
        assert scores["kendall"] > scores["live_macs"]["kendall"] + 0.06
        found.append(scores["kendall"])
    assert np.mean(found) >= 0.91
