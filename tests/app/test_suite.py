"""`dnas suite` runs DARTS-Bench-Suite as it was released or at a small size, and ranks methods."""

import json
import pathlib

import numpy as np
import pytest
from scipy import stats

import dnas
from dnas.app import suite
from dnas.app.suite import COUNTED, TRAININGS, SuiteCommand
from dnas.baselines import most_macs
from dnas.statistics import compare, reported


def config(method, benchmark, number=None, genotype=None, seed=2, rest=(), **given):
    command = SuiteCommand(**given)
    place = benchmark, method, seed
    return suite._config(command, rest, pathlib.Path("runs"), place, number, genotype)


def test_the_full_size_is_that_of_the_release():
    assert len(TRAININGS) == 9 and TRAININGS[4] == (0.1, 1e-4) and TRAININGS[9] == (0.01, 1e-3)
    for benchmark, method, sizes, batch, epochs, rates in (
        ("wide_all_skip", "darts1", (18, 4), 96, 100, (0.025, 3e-4)),
        ("single_no_skip", "drnas", (26, 1), 96, 100, (0.1, 6e-4)),
        ("deep_regular", "gdas", (7, 18), 320, 300, (0.025, 3e-4)),
        ("deep_no_skip", "random", (7, 18), 64, 0, (0.025, 3e-4)),
    ):
        found = config(method, benchmark, 4, full=True)
        assert found.dataset == "cifar10" and found.space == benchmark and found.seed == 2
        assert (found.channels, found.cells) == sizes
        assert (found.retrain_channels, found.retrain_cells) == sizes
        assert (found.batch_size, found.epochs, found.random_cells) == (batch, epochs, 0)
        assert (found.learning_rate, found.arch_learning_rate) == rates
        assert (found.retrain_epochs, found.retrain_batch_size) == (300, 512)
        assert (found.retrain_learning_rate, found.retrain_weight_decay) == (0.1, 1e-4)
        assert (found.auxiliary, found.drop_path, found.cutout) == (0.0, 0.0, 16)


def test_the_small_size_has_the_shapes_and_the_settings_of_the_digits():
    found = config("gdas", "deep_no_skip")
    assert (found.channels, found.cells, found.retrain_cells) == (4, 18, 18)
    assert found.dataset == "digits" and found.epochs == 20 and found.arch_learning_rate == 3e-3
    assert config("drnas", "wide_regular").partial_channels == 1
    assert config("gdas", "deep_no_skip", rest=["--epochs=3"]).epochs == 3
    counted = config(COUNTED, "single_all_skip")
    assert dnas.Genotype.from_json(counted.genotype) == most_macs(dnas.SPACES["single_all_skip"])


def test_another_training_is_that_of_the_same_network_in_a_folder_of_its_own():
    text = most_macs(dnas.SPACES["wide_no_skip"]).to_json()
    first, second = (config("darts1", "wide_no_skip", n, text) for n in (1, 2))
    assert first.genotype == second.genotype == text and first.name != second.name
    assert {first.retrain_weight_decay, second.retrain_weight_decay} == {1e-4, 3e-4}


def test_tables_rank_methods_in_each_setting_and_over_all():
    rng = np.random.default_rng(0)
    values = {
        name: {method: rng.normal(90, 1, 4).round(2) for method in ("random", "a", "b")}
        for name in ("wide_regular", "deep_regular", "single_regular")
    }
    values["wide_regular"]["a"] = values["wide_regular"]["random"] + 3
    found = {
        name: {method: [{"value": value} for value in own] for method, own in methods.items()}
        for name, methods in values.items()
    }
    lines = suite.tables(found).splitlines()
    own = values["wide_regular"]
    ranks = [1 + sum(other[seed] > own["b"][seed] for other in own.values()) for seed in range(4)]
    (row,) = [line for line in lines[:5] if line.startswith("| b |")]
    assert row == (
        f"| b | {reported(own['b'], 'seeds of search, training')} | {reported(ranks, 'seeds')} |"
        f" {compare(own['b'], own['random']).shown()} |"
    )
    assert "p = 0.029 (permutation of two groups, exact)" in lines[3]  # a, which is above all
    means = np.array([[np.mean(v) for v in methods.values()] for methods in values.values()])
    over_all = (3 - np.argsort(np.argsort(means, axis=1), axis=1)).T
    assert f"| a | {reported(over_all[1], 'settings')} |" in lines
    p = stats.friedmanchisquare(*means.T).pvalue
    assert any(f"p = {p:.2g} (Friedman, n = 3 settings)" in line for line in lines)
    # Nothing is said over all of a setting that some method has not run in yet.
    found["single_regular"]["b"] = []
    assert "n = 2 settings" in suite.tables(found)
    assert suite.tables({"wide_regular": {"random": []}}).startswith("\nEntries are")


def test_mistakes_are_said_before_any_search(tmp_path):
    for args, message in (
        (["--benchmarks=tall_regular"], "benchmark 'tall_regular' is not known"),
        (["--methods=darts7"], "method 'darts7' is not known"),
        (["--trainings=10"], "training '10' is not known"),
        (["--seeds=0"], "seeds is a number of at least 1"),
        (["--methods=darts_minus", "--benchmarks=wide_no_skip"], "needs skip_connect"),
        (["--methods=random", "--clip=0"], "clip must be greater than 0"),
    ):
        with pytest.raises(SystemExit, match=message):
            suite.main([*args, f"--runs={tmp_path / 'runs'}"])
        assert not (tmp_path / "runs").exists()


SMALL = (
    "--channels=4 --cells=1 --epochs=1 --steps=2 --batch-size=16 --images=96 --test-images=48"
    " --retrain-channels=4 --retrain-cells=1 --retrain-epochs=1 --retrain-steps=2"
    " --retrain-batch-size=16 --compile-ahead=0"
).split()


@pytest.mark.slow
def test_a_suite_continues_and_does_nothing_twice(tmp_path):
    args = ["--benchmarks=wide_all_skip", "--methods=random,gdas", "--trainings=1,2"]
    args += [f"--runs={tmp_path}", *SMALL]
    suite.main([*args, "--seeds=1"])
    done = json.loads((tmp_path / "suite" / "suite.json").read_text())["benchmarks"]
    for method, runs in done["wide_all_skip"].items():
        (run,) = runs
        assert run["value"] == pytest.approx(np.mean(run["accuracies"]))
        for number, accuracy in zip((1, 2), run["accuracies"], strict=True):
            folder = tmp_path / "suite" / f"wide_all_skip-{method}-seed0-training{number}"
            trained = json.loads((folder / "phases" / "searched.json").read_text())
            assert 100 * trained["test_accuracy"] == pytest.approx(accuracy)
            assert trained["genotype"] == run["genotype"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "suite").rglob("phases/*.json")}
    assert len(before) == 8
    suite.main([*args, "--seeds=1"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
