"""`dnas search --target=...`: the derived network costs what was asked for, or the mistake is said
before the search."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import dnas
from dnas import hw_loss
from dnas.app import devices, hardware, pareto, retrain
from dnas.app import table as tables
from dnas.app.config import SearchConfig, preset
from dnas.app.search import main
from dnas.graph import live_edges
from dnas.hw_loss import CostTable, count_network, expected_cost, feasible_range, write_table

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
        ("latency=3mJ", "unit 'mJ' does not fit latency"),
        ("speed=3ms", "metric 'speed' does not exist"),
    ],
)
def test_targets_that_say_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        hardware.targets_of(text)


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


def test_a_table_of_this_device_is_proved_by_measuring(tmp_path, capsys):
    command = tables.TableCommand(
        space="nasbench201",
        runtime="jax",
        channels=4,
        cells=3,
        image_size=8,
        image_channels=1,
        repeats=3,
        out=tmp_path / "here.csv",
    )
    table = tables.make_table(command, "a test")
    assert table.device == devices.device_name("jax")
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
    assert "measured" in capsys.readouterr().out


def test_a_front_is_what_nothing_dominates():
    points = [
        {"predicted": cost, "accuracy": accuracy}
        for cost, accuracy in ((3, 90), (1, 80), (2, 70), (3, 92), (4, 92))
    ]
    assert pareto.front(points) == [1, 3]


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


class Crooked:
    """A device on which every network takes 1.2 times what the table predicts, and 0.2 times the
    least of all more."""

    def __init__(self, cost):
        self.cost, self.least = cost, feasible_range(cost).least

    def __call__(self, space, genotype, table, metric, sizes):
        predicted = float(self.cost(dnas.one_hot_mix(space, genotype)))
        return {
            "measured": 1.2 * predicted + 0.2 * self.least,
            "spread": 0.0,
            "count": 1,
            "note": "made up",
        }


@pytest.mark.parametrize("equality", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_network_that_misses_its_target_when_measured_is_derived_again(
    share, equality, monkeypatch
):
    table = made_up_table(device=devices.device_name("nothing"))
    cost = cost_of(table)
    monkeypatch.setattr(hardware, "_measure", Crooked(cost))
    ends = feasible_range(cost)
    limit = hardware.Limit(cost, ends.least + share * (ends.largest - ends.least), table)
    config = dataclasses.replace(
        preset(SearchConfig, "digits", "darts1", "nasbench201"), equality=equality, rounds=8
    )
    mix = {"cell": jax.random.dirichlet(jax.random.key(0), jax.numpy.ones(5), (6,))}
    mix = jax.tree.map(jax.device_get, mix)
    dear = dnas.Genotype(
        "nasbench201", {"cell": [(*edge, "nor_conv_3x3") for edge in SPACE.cells["cell"].edges]}
    )
    genotype, (row,) = hardware.derive(config, SPACE, dear, mix, [limit], SIZES)
    assert row["predicted"] == pytest.approx(float(cost(dnas.one_hot_mix(SPACE, genotype))))
    misses = [own["measured"] / limit.bound - 1 for own in row["rounds"]]
    assert misses[0] > 0.05 or not equality
    if equality:  # as near as one op is dear
        assert abs(row["measured"] / limit.bound - 1) == min(map(abs, misses)) < 0.1
    else:
        assert row["measured"] <= limit.bound and len(misses) == 1 + (misses[0] > 0)


def test_a_search_that_ends_without_a_path_is_read_again_with_one(capsys):
    """Nothing costs less than a network that computes nothing."""
    table = made_up_table(device="another device")
    cost = cost_of(table)
    ends = feasible_range(cost)
    limit = hardware.Limit(cost, ends.least + 0.3 * (ends.largest - ends.least), table)
    config = preset(SearchConfig, "digits", "darts1", "nasbench201")
    spec = SPACE.cells["cell"]
    rows = np.full((len(spec.edges), len(spec.ops)), 0.1)
    rows[:, spec.ops.index("none")] = 0.6
    nothing = dnas.Genotype("nasbench201", {"cell": [(*edge, "none") for edge in spec.edges]})
    genotype, (row,) = hardware.derive(config, SPACE, nothing, {"cell": rows}, [limit], SIZES)
    there = [edge[:2] for edge in genotype.cells["cell"] if edge.op != "none"]
    assert live_edges(there, spec.num_inputs, spec.concat) and row["predicted"] <= limit.bound
    assert "no path" in capsys.readouterr().out


@pytest.mark.slow
def test_a_trained_network_is_written_as_onnx_and_checked(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra dnas[export] is not installed")
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    retrain.main(
        [
            "--genotype=|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
            "--onnx=1",
            "--space=nasbench201",
            f"--runs={tmp_path}",
            "--name=run",
            *(flag for flag in SMALL if "retrain" in flag),
            "--images=96",
            "--test-images=48",
        ]
    )
    written = json.loads((tmp_path / "run" / "phases" / "onnx.json").read_text())
    assert written["file"] == "network.onnx" and written["largest_difference"] < 1e-4
    model = onnx.load(tmp_path / "run" / "network.onnx")
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        1,
        8,
        8,
        1,
    ]


@pytest.mark.slow
def test_a_network_that_is_not_trained_is_written_with_random_weights(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra dnas[export] is not installed")
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    main([f"--runs={tmp_path}", "--name=run", "--onnx=1", "--retrain=0", *SMALL])
    assert (
        json.loads((tmp_path / "run" / "phases" / "onnx.json").read_text())["largest_difference"]
        < 1e-4
    )
    assert onnx.load(tmp_path / "run" / "network.onnx").graph.output[0].name == "logits"


def test_without_the_packages_onnx_is_refused_before_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SystemExit, match=r"--onnx needs the package jax2onnx.*pip install 'dnas\[export\]'"
    ):
        main([f"--runs={tmp_path}", "--onnx=1", *SMALL])
    assert not list(tmp_path.iterdir())
