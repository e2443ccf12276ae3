"""`dnas search --target=...`: the derived network costs what was asked for, or the mistake is said
before the search."""

import dataclasses
import json
import re
import time
import types
from typing import Any

import jax
import numpy as np
import pytest

import dnas
from dnas import hw_loss
from dnas.app import devices, exporting, hardware, pareto, retrain
from dnas.app import table as tables
from dnas.app.config import SearchConfig, preset
from dnas.app.search import main
from dnas.hw_loss import CostTable, count_network, expected_cost, feasible_range, write_table
from dnas.tabular import Benchmark

SMALL = (
    "--channels=4 --cells=3 --epochs=1 --steps=2 --batch-size=16 --images=96 --test-images=48"
    " --retrain-channels=4 --retrain-cells=3 --retrain-epochs=1 --retrain-steps=1"
    " --retrain-batch-size=16 --random-cells=1"
).split()
SIZES = {
    "channels": 4,
    "num_cells": 3,
    "num_classes": 10,
    "image_size": (8, 8),
    "image_channels": 1,
}
SPACE = dnas.SPACES["nasbench201"]


def made_up_table(device="a made-up device", runtime="nothing 1.0"):
    """A table whose latency is a microsecond a thousand multiply-adds, and some for each part."""
    counts = hw_loss.count_table(SPACE, **SIZES)
    rows = {
        ("latency", part): dnas.hw_loss.Cost(0.001 + 1e-6 * cost.mean)
        for (metric, part), cost in counts.rows.items()
        if metric == "macs"
    }
    return CostTable(device, runtime, 1, "2026-11-21", "a test", rows)


@pytest.fixture
def table_file(tmp_path):
    write_table(made_up_table(), tmp_path / "table.csv")
    return tmp_path / "table.csv"


def cost_of(table):
    return expected_cost(table, SPACE.parts(**SIZES))


def importorskip(exporter):
    for package, install in exporting.EXPORTERS[exporter].packages.items():
        pytest.importorskip(package, reason=f"it is not installed: {install}")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2.5ms", [("latency", 2.5)]),
        ("2.5e3us", [("latency", 2.5)]),
        ("latency=0.0025s", [("latency", 2.5)]),
        ("80mJ, 600kparams,.5Gmacs", [("energy", 80.0), ("params", 6e5), ("macs", 5e8)]),
    ],
)
def test_targets_are_read(text, expected):
    assert hardware.targets_of(text) == [
        (metric, pytest.approx(bound)) for metric, bound in expected
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("fast", "a number and a unit, such as 2.5ms"),
        ("3", "a number and a unit"),
        ("3parsec", "'parsec' of the target '3parsec' is not known; choose from: ms, s"),
        ("3MB", "peak_memory and of bytes; write peak_memory=3MB"),
        ("2ms,3ms", "two targets of latency"),
        ("0ms", "more than zero"),
        ("1e-400ms", "more than zero"),
        ("1e400ms", "from 1e-30 to 1e\\+30"),
        ("1e39macs", "from 1e-30 to 1e\\+30"),  # in float32 it is infinite
        ("nanms", "a number and a unit"),
        ("=3ms", "metric '' does not exist"),
        ("latency=3mJ", "unit 'mJ' does not fit latency"),
        ("speed=3ms", "metric 'speed' does not exist"),
    ],
)
def test_targets_that_say_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        hardware.targets_of(text)


LONG = {
    "digits": "9" * 10**6,
    "digits and a unit": "9" * 10**6 + "ms",
    "blanks": " " * 10**6 + "!",
    "blanks at the end": "3ms" + " " * 10**6 + "!",
    "a point at the end": "1" * 10**6 + ".",
    "a name": "a" * 10**6 + "=",
    "a name and a number": "a" * 10**6 + "=3ms",
    "a unit": "3" + "a" * 10**6,
    "powers": "1e" * 10**6,
    "names": "latency=" * 10**5,
    "points": "." * 10**6,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_target_is_refused_in_linear_time(name):
    """4,000 digits took half a second, 20,000 over three, and these would have taken days."""
    start = time.process_time()
    with pytest.raises(ValueError) as caught:
        hardware.targets_of(LONG[name])
    assert time.process_time() - start < 1 and len(str(caught.value)) < 1000


def test_mistakes_are_said_before_the_search(table_file, tmp_path):
    ends = feasible_range(cost_of(made_up_table()))
    flags = ["--space=nasbench201", f"--runs={tmp_path}", *SMALL]
    for more, message in (
        ([f"--table={table_file}"], "give a target as well, such as --target"),
        (
            ["--target=3ms"],
            (
                "needs a table with it, but no table is given; measure one by dnas table"
                " --space=nasbench201"
            ),
        ),
        ([f"--table={table_file}", "--target=3mJ"], "the table .*table.csv has latency"),
        (
            [f"--table={table_file}", "--target=0.001us"],
            f"ranges from {ends.least:g} to {ends.largest:g} ms",
        ),
        (["--target=9kparams", "--relax=simplex", "--arch-optimizer=adam"], "belong together"),
        (["--table=nowhere.csv", "--target=3ms"], "there is neither a file 'nowhere.csv'"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*flags, *more])
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.slow
def test_a_search_without_retraining_ends_within_its_target(table_file, tmp_path, capsys):
    cost = cost_of(made_up_table())
    ends = feasible_range(cost)
    target = ends.least + 0.4 * (ends.largest - ends.least)
    flags = [
        "--space=nasbench201",
        f"--runs={tmp_path}",
        "--name=run",
        "--retrain=0",
        f"--table={table_file}",
        *SMALL,
    ]
    main([*flags, f"--target={target}ms,9kparams"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    genotype = dnas.Genotype.from_json((tmp_path / "run" / "genotype.json").read_text())
    latency, params = summary["costs"]
    assert latency["predicted"] == pytest.approx(float(cost(dnas.one_hot_mix(SPACE, genotype))))
    assert latency["predicted"] <= target
    assert params["predicted"] == count_network(SPACE, genotype, **SIZES).params <= 9000
    assert "not measured: the table is of a made-up device" in latency["note"]
    assert f"latency: target {target:.5g} ms, predicted" in capsys.readouterr().out
    assert (
        "test_accuracy" not in summary
        and not (tmp_path / "run" / "phases" / "searched.json").exists()
    )
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {"latency", "latency_expected", "latency_weight", "params"} <= set(rows[-1])


@pytest.mark.slow
def test_random_cells_have_the_target_of_the_searched_one(tmp_path):
    main(["--space=nasbench201", f"--runs={tmp_path}", "--name=run", "--target=250kmacs", *SMALL])
    for name in ("searched", "random_0"):
        assert (
            json.loads((tmp_path / "run" / "phases" / f"{name}.json").read_text())["macs"]
            <= 250_000
        )


@pytest.mark.parametrize("penalty", [*hw_loss.MULTIPLIERS, *hw_loss.FACTORS, *hw_loss.PENALTIES])
def test_every_penalty_grows_with_the_cost(penalty):
    layers = SPACE.parts(**SIZES)
    cost = expected_cost(made_up_table(), layers)
    limit = hardware.Limit(cost, 2.0, None)
    config = preset(SearchConfig, "digits", "darts1", "nasbench201")
    if penalty in ("log_power", "band"):  # logarithms of numbers above one
        cost = expected_cost(hw_loss.count_table(SPACE, **SIZES), layers, metric="macs")
        limit = hardware.Limit(cost, 1e5, None)
    # All identities, all 3x3 convolutions.
    ends = [{"cell": jax.nn.one_hot([op] * 6, 5)} for op in (1, 3)]
    low, high = (float(cost(mix)) for mix in ends)
    limit = limit._replace(bound=(low + high) / 2)
    terms = hardware.search_terms(dataclasses.replace(config, penalty=penalty), [limit], 100)
    if penalty in hw_loss.MULTIPLIERS:
        constraint = terms["constraint"]
        multipliers = constraint.multiplier.init()
        for _ in range(5):
            multipliers, _ = constraint.follow(multipliers, ends[1])
        values = [float(constraint.penalty(multipliers, mix)) for mix in ends]
    elif penalty in hw_loss.FACTORS:
        values = [float(terms["arch_factors"][0]({}, mix)) for mix in ends]
    else:
        weight, term = terms["arch_losses"][0]
        values = [weight * float(term({}, mix)) for mix in ends]
        if penalty == "absolute":  # which pulls from both sides, here alike
            assert values[0] == pytest.approx(values[1], rel=1e-4) and values[0] > 0
            return
    assert values[1] > values[0]


@pytest.mark.slow
def test_frank_wolfe_stays_within_the_bound_in_a_search(tmp_path):
    target = 250_000
    flags = [
        "--space=nasbench201",
        "--relax=simplex",
        "--arch-optimizer=frank_wolfe",
        f"--target={target}macs",
        "--retrain=0",
    ]
    main([*flags, f"--runs={tmp_path}", "--name=run", *SMALL, "--epochs=2", "--steps=6"])
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    cost = expected_cost(hw_loss.count_table(SPACE, **SIZES), SPACE.parts(**SIZES), metric="macs")
    assert all(float(cost(row["mix"])) <= target * (1 + 1e-6) for row in rows)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["macs"] <= target


@pytest.mark.parametrize("runtime", ["jax", pytest.param("litert", marks=pytest.mark.slow)])
def test_a_table_of_this_device_is_proved_by_measuring(runtime, tmp_path, capsys):
    if runtime == "litert":
        importorskip("litert")
    command = tables.TableCommand(
        space="nasbench201",
        runtime=runtime,
        channels=4,
        cells=3,
        image_size=8,
        image_channels=1,
        repeats=3,
        out=tmp_path / "here.csv",
    )
    table = tables.make_table(command, "a test")
    assert table.device == devices.device_name(runtime)
    ends = feasible_range(cost_of(table))
    flags = [
        "--space=nasbench201",
        f"--runs={tmp_path}",
        "--name=run",
        "--retrain=0",
        f"--table={tmp_path / 'here.csv'}",
    ]
    main([*flags, f"--target={ends.largest}ms", *SMALL])
    (row,) = json.loads((tmp_path / "run" / "summary.json").read_text())["costs"]
    assert row["measured"] > 0 and row["spread"] >= 0 and row["count"] > 0 and row["speed"] > 0
    assert f"measured here in {table.runtime}" in row["note"]
    assert "measured" in capsys.readouterr().out


def test_a_front_is_what_nothing_dominates():
    points = [
        {"predicted": cost, "accuracy": accuracy}
        for cost, accuracy in ((3, 90), (1, 80), (2, 70), (3, 92), (4, 92))
    ]
    assert pareto.front(points) == [1, 3]


def test_what_a_front_is_drawn_over_is_the_only_metric_of_a_benchmark_or_is_to_be_named():
    """The first of several may be a cost, or row numbers."""
    genotypes = [dnas.Genotype.from_text("|skip_connect~0|")]
    job: Any = types.SimpleNamespace(benchmark=Benchmark(genotypes, {"ms": [1], "top1": [90]}))
    assert pareto.accuracy_name(job, "top1") == "top1"
    with pytest.raises(ValueError, match="the metrics ms, top1; name one, not None"):
        pareto.accuracy_name(job, None)
    job.benchmark = Benchmark(genotypes, {"top1": [90]})
    assert pareto.accuracy_name(job, None) == "top1"


@pytest.mark.slow
def test_pareto_draws_searched_and_random_architectures_and_continues(table_file, tmp_path, capsys):
    flags = [
        "--space=nasbench201",
        f"--runs={tmp_path}",
        "--points=2",
        f"--table={table_file}",
        *SMALL,
    ]
    pareto.main(flags)
    found = json.loads((tmp_path / "pareto" / "pareto.json").read_text())
    assert len(found["searched"]) == 2 and len(found["random"]) == 2
    assert all(point["predicted"] <= point["bound"] for point in found["searched"])
    assert (tmp_path / "pareto" / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    pareto.main(flags)
    assert "compiling" not in capsys.readouterr().err


@pytest.mark.parametrize("equality", [False, True])
def test_a_network_that_misses_its_target_when_measured_is_derived_again(equality, monkeypatch):
    """On a device on which every network takes 1.2 times what the table predicts."""
    table = made_up_table(device=devices.device_name("jax"), runtime="jax")
    cost = cost_of(table)

    def measure_networks(space, genotypes, runtime, **options):
        (genotype,) = genotypes
        return [hw_loss.Measured(1.2 * float(cost(dnas.one_hot_mix(space, genotype))), 0.01, 7)]

    monkeypatch.setattr(hw_loss, "measure_networks", measure_networks)
    ends = feasible_range(cost)
    limit = hardware.Limit(cost, ends.least + 0.5 * (ends.largest - ends.least), table)
    config = dataclasses.replace(
        preset(SearchConfig, "digits", "darts1", "nasbench201"), equality=equality, rounds=8
    )
    mix = {"cell": np.asarray(jax.random.dirichlet(jax.random.key(0), jax.numpy.ones(5), (6,)))}
    dear = dnas.Genotype(
        "nasbench201", {"cell": [(*edge, "nor_conv_3x3") for edge in SPACE.cells["cell"].edges]}
    )
    genotype, (row,) = hardware.derive(config, SPACE, dear, mix, [limit], SIZES)
    assert row["predicted"] == pytest.approx(float(cost(dnas.one_hot_mix(SPACE, genotype))))
    assert row["measured"] == pytest.approx(1.2 * row["predicted"])
    assert (row["spread"], row["count"]) == (0.01, 7) and "measured here in jax" in row["note"]
    assert len(row["rounds"]) > 1 and row["rounds"][0]["bound"] == limit.bound
    assert f"derived and measured {len(row['rounds'])} times" in hardware.in_words([row])[0]
    if not equality:
        assert row["measured"] <= limit.bound


def test_what_deploying_notes_is_printed(capsys):
    table = made_up_table(device="another device")
    cost = cost_of(table)
    ends = feasible_range(cost)
    limit = hardware.Limit(cost, ends.least + 0.3 * (ends.largest - ends.least), table)
    config = preset(SearchConfig, "digits", "darts1", "nasbench201")
    spec = SPACE.cells["cell"]
    rows = np.full((len(spec.edges), len(spec.ops)), 0.1)
    rows[:, spec.ops.index("none")] = 0.6
    nothing = dnas.Genotype("nasbench201", {"cell": [(*edge, "none") for edge in spec.edges]})
    _, (row,) = hardware.derive(config, SPACE, nothing, {"cell": rows}, [limit], SIZES)
    assert row["predicted"] <= limit.bound and "measured" not in row
    assert "not measured: the table is of another device" in row["note"]
    assert "no path" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_a_trained_network_is_written_for_other_runtimes_and_checked(name, tmp_path):
    importorskip(name)
    retrain.main(
        [
            "--genotype=|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
            f"--{name}=1",
            "--space=nasbench201",
            f"--runs={tmp_path}",
            "--name=run",
            *(flag for flag in SMALL if "retrain" in flag),
            "--images=96",
            "--test-images=48",
        ]
    )
    exporter = exporting.EXPORTERS[name]
    written = json.loads((tmp_path / "run" / "phases" / f"{name}.json").read_text())
    assert written["file"] == exporter.file and written["largest_difference"] < 1e-4
    read = exporter.load((tmp_path / "run" / exporter.file).read_bytes())
    assert read({"images": np.zeros((1, 8, 8, 1), np.float32)})["logits"].shape == (1, 10)


@pytest.mark.slow
def test_a_network_that_is_not_trained_is_written_with_random_weights_for_all_that_ask(tmp_path):
    flags = []
    for name in exporting.EXPORTERS:
        importorskip(name)
        flags.append(f"--{name}=1")
    main([f"--runs={tmp_path}", "--name=run", "--retrain=0", *flags, *SMALL])
    for name, exporter in exporting.EXPORTERS.items():
        written = json.loads((tmp_path / "run" / "phases" / f"{name}.json").read_text())
        assert written["largest_difference"] < 1e-4
        assert (tmp_path / "run" / exporter.file).exists()


@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_without_the_packages_an_export_is_refused_before_the_search(name, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    package, install = next(iter(exporting.EXPORTERS[name].packages.items()))
    needed = f"--{name} needs the package {package}, which is not there: {install}"
    with pytest.raises(SystemExit, match=re.escape(needed)):
        main([f"--runs={tmp_path}", f"--{name}=1", *SMALL])
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    network = SPACE.network(
        dnas.Genotype.from_text(
            "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"
        ),
        channels=4,
        num_cells=3,
        num_classes=3,
    )
    variables = network.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    wrong = exporting.Exporter(
        file="network.wrong",
        packages={},
        network=lambda network, variables, shape: b"",
        language_model=lambda network, variables: b"",
        load=lambda file: lambda inputs: {"logits": np.ones((1, 3), np.float32)},
    )
    with pytest.raises(ValueError, match="differs from the trained one by"):
        exporting.write_network(
            tmp_path / wrong.file, wrong, network, variables, image_shape=(8, 8, 3)
        )
    assert not list(tmp_path.iterdir())
