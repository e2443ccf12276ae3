"""The commands from end to end, on the digits, at the smallest size."""

import json
import re
import shutil

import numpy as np
import pytest

import dnas
from dnas.app import evaluate, report, retrain, search
from dnas.app.past import read_past
from dnas.app.runs import Run

TINY = [
    *(
        "--channels=2",
        "--cells=1",
        "--epochs=2",
        "--steps=3",
        "--batch-size=16",
        "--images=80",
        "--test-images=70",
    ),
    *(
        "--retrain-channels=2",
        "--retrain-cells=1",
        "--retrain-epochs=2",
        "--retrain-batch-size=32",
        "--random-cells=2",
    ),
]


@pytest.fixture(autouse=True)
def no_shared_cache(monkeypatch):
    """Leaves the compilation cache of the tests as conftest.py sets it."""
    monkeypatch.setattr("dnas.app.command.set_up_process", lambda: None)
    monkeypatch.setattr("dnas.app.evaluate.set_up_process", lambda: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnas.app.command.set_up_process", lambda: None)
        search.main([*TINY, f"--runs={runs}", "--name=a"])
    return runs


def test_summary_holds_what_a_reader_needs(finished):
    summary = Run(finished / "a").read("summary.json")
    assert len(summary["random_accuracies"]) == 2
    assert summary["random_mean"] == pytest.approx(np.mean(summary["random_accuracies"]))
    assert summary["random_std"] == pytest.approx(np.std(summary["random_accuracies"], ddof=1))
    trained = read_past(finished / "a").trained
    assert summary["largest"]["macs"] == max(result["macs"] for result in trained.values())
    assert summary["largest"]["test_accuracy"] == trained["most_multiply-adds"]["test_accuracy"]
    assert (
        set(summary["seconds"]) == {"search", "retrain", "random"}
        and min(summary["seconds"].values()) > 0
    )
    assert summary["test_images"] == 70 and summary["seed"] == 0
    genotype = dnas.Genotype.from_text(summary["genotype"])
    counts = dnas.count_network(
        dnas.SPACES["darts"], genotype, channels=2, num_cells=1, image_size=8, image_channels=1
    )
    assert (summary["params"], summary["macs"]) == counts


def test_the_genotype_is_written_in_both_notations(finished):
    texts = [(finished / "a" / name).read_text() for name in ("genotype.json", "genotype.txt")]
    genotypes = {dnas.Genotype.from_text(text) for text in texts}
    assert genotypes == {
        dnas.Genotype.from_text(Run(finished / "a").read("summary.json")["genotype"])
    }


def test_metrics_have_a_row_for_every_epoch_of_every_phase(finished):
    rows = Run(finished / "a").rows()
    epochs = [(row["phase"], row["epoch"]) for row in rows]
    assert epochs == [
        (phase, epoch)
        for phase in ("search", "searched", "random_0", "random_1", "most_multiply-adds")
        for epoch in (1, 2)
    ]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert all(
        {"arch", "mix", "genotype", "skips", "valid_accuracy"} <= set(row)
        for row in rows
        if row["phase"] == "search"
    )
    assert all(row["step"] == 3 for row in rows if (row["phase"], row["epoch"]) == ("search", 2)), (
        "--steps ends the search"
    )


def test_the_report_is_one_file_that_shows_cells_curves_and_settings(finished):
    html = (finished / "a" / "report.html").read_text()
    assert html.count("<svg") == 1 and html.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', html), "nothing is loaded from elsewhere"
    for name in ("retrain_epochs", "random 1", "most multiply-adds", "jaxlib"):
        assert name in html


def test_random_cells_differ_from_each_other_and_are_the_same_for_a_seed(finished):
    phases = [
        Run(finished / "a").read(f"phases/random_{number}.json")["genotype"] for number in range(2)
    ]
    assert phases[0] != phases[1]


def test_a_reloaded_network_scores_the_same(finished, capsys):
    evaluate.main([f"--run={finished / 'a'}"])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 4 and "searched" in shown


PAGES = ("report.html", "cells.svg", "curves.png", "logits.png")


def test_the_report_is_written_again_from_the_folder_alone(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dnas.app.images.load", lambda *_: pytest.fail("the data set was read"))
    copy = tmp_path / "a"
    shutil.copytree(finished / "a", copy, ignore=shutil.ignore_patterns("checkpoints", *PAGES))
    report.main([f"--run={copy}"])
    for name in (*PAGES, "summary.json"):
        assert (copy / name).read_bytes() == (finished / "a" / name).read_bytes(), name
    assert Run(copy).read("summary.json")["genotype"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("config.json", "not the folder of a run"),
        ("summary.json", "has not ended; --resume"),
        ("phases/searched.json", "has trained no network"),
    ],
)
def test_there_is_no_report_of_what_is_not_there(finished, tmp_path, lost, message):
    copy = tmp_path / "a"
    shutil.copytree(finished / "a", copy, ignore=shutil.ignore_patterns("checkpoints", *PAGES))
    (copy / lost).unlink()
    with pytest.raises(SystemExit, match=message):
        report.main([f"--run={copy}"])
    assert not (copy / "report.html").exists()


def test_a_run_in_a_space_that_is_not_here_has_no_report(finished, tmp_path):
    copy = tmp_path / "a"
    shutil.copytree(finished / "a", copy, ignore=shutil.ignore_patterns("checkpoints"))
    config = Run(copy).read("config.json")
    Run(copy).write("config.json", config | {"settings": config["settings"] | {"space": "lost"}})
    with pytest.raises(SystemExit, match="'lost', which is not among: darts"):
        report.main([f"--run={copy}"])


def test_config_json_says_how_to_do_it_again(finished):
    argv = Run(finished / "a").read("config.json")["argv"]
    assert argv == ["dnas", "search", *TINY, f"--runs={finished}", "--name=a"]


def test_a_run_of_another_version_is_not_scored_but_reported(finished, tmp_path):
    copy = tmp_path / "a"
    shutil.copytree(finished / "a", copy)
    config = Run(copy).read("config.json")
    Run(copy).write("config.json", config | {"settings": config["settings"] | {"colour": "red"}})
    with pytest.raises(SystemExit, match="another version of dnas.*colour"):
        evaluate.main([f"--run={copy}"])
    report.main([f"--run={copy}"])
    assert "<td>colour</td><td>red</td>" in (copy / "report.html").read_text()


def test_evaluation_reads_the_checkpoint_and_not_the_summary(finished, tmp_path):
    copy = tmp_path / "a"
    shutil.copytree(finished / "a", copy)
    shutil.rmtree(copy / "checkpoints" / "searched")
    with pytest.raises(SystemExit, match="checkpoint"):
        evaluate.main([f"--run={copy}"])


def test_resuming_a_finished_run_repeats_its_result_and_no_work(finished, capsys):
    before = Run(finished / "a").read("summary.json")
    search.main([f"--runs={finished}", "--name=a", "--resume"])
    assert Run(finished / "a").read("summary.json") == before
    assert "compiling" not in capsys.readouterr().err


def test_the_searched_cell_is_looked_up_in_the_benchmark(finished, tmp_path, capsys):
    """A finished run is reported again with a benchmark, and then again, without naming it, when
    its table has changed."""
    shutil.copytree(finished / "a", tmp_path / "a")
    searched = dnas.Genotype.from_text(Run(finished / "a").read("summary.json")["genotype"])
    genotypes, top1 = (
        [dnas.PUBLISHED["DARTS_V1"], dnas.PUBLISHED["DARTS_V2"], searched],
        [97.0, 97.24, 97.1],
    )
    path = tmp_path / "table.csv.gz"

    def reported(table, *flags):
        table.write(path)
        search.main([f"--runs={tmp_path}", "--name=a", "--resume", *flags])
        return Run(tmp_path / "a").read("summary.json")["benchmark"]

    found = reported(dnas.tabular.Benchmark(genotypes, {"top1": top1}), f"--benchmark={path}")
    (standing,) = found["standings"]
    assert (found["file"], standing["value"], standing["rank"], standing["num_archs"]) == (
        "table.csv.gz",
        97.1,
        2,
        3,
    )
    assert standing["regret"] == pytest.approx(0.14) and standing["expected_best"][
        "1"
    ] == pytest.approx(np.mean(top1))
    line = "top1: 97.1, rank 2 of 3"
    assert line in (tmp_path / "a" / "report.html").read_text() and line in capsys.readouterr().out

    found = reported(dnas.tabular.Benchmark(genotypes[:2], {"top1": top1[:2]}))
    assert (
        found["standings"] == []
        and "no architecture in it computes the same" in capsys.readouterr().out
    )


def test_a_finished_run_is_not_overwritten(finished):
    with pytest.raises(SystemExit, match="is finished"):
        search.main([*TINY, f"--runs={finished}", "--name=a"])


def test_retrain_takes_the_genotype_file_of_a_run(finished):
    sizes = [flag for flag in TINY if flag.startswith(("--retrain", "--images", "--test-images"))]
    retrain.main(
        [f"--genotype={finished / 'a' / 'genotype.txt'}", f"--runs={finished}", "--name=b", *sizes]
    )
    a, b = Run(finished / "a").read("summary.json"), Run(finished / "b").read("summary.json")
    assert (b["genotype"], b["test_accuracy"]) == (a["genotype"], a["test_accuracy"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=mnist"], "'mnist'.*choose from"),
        (["--dataset=cifar10", "--data-dir=/no/such/folder"], "/no/such/folder"),
        (["--space=nope"], "'nope'.*darts"),
        (["--benchmark=/no/such.csv"], "no file /no/such.csv.*published"),
        (["--relax=nope"], "'nope'.*softmax"),
        (["--cells=8", "--channels=0"], "channels must be at least 1"),
        (["--drop-path=1"], "below 1"),
        (["--auxiliary=0.4"], "auxiliary head needs"),
        (["--batch-size=4000"], "batch_size is 4000"),
        (["--retrain-batch-size=4000"], "retrain_batch_size is 4000"),
    ],
)
def test_mistakes_end_the_command_before_there_is_a_folder(tmp_path, flags, message):
    with pytest.raises(SystemExit, match=message):
        search.main([f"--runs={tmp_path}", *flags])
    assert not list(tmp_path.iterdir())


def test_a_wrong_op_in_a_genotype_file_is_an_error_that_lists_the_ops(tmp_path):
    text = dnas.PUBLISHED["DARTS_V2"].to_text().replace("dil_conv_3x3", "dil_conv_9x9")
    (tmp_path / "genotype.txt").write_text(text)
    with pytest.raises(SystemExit, match="'dil_conv_9x9'.*choose from: none, max_pool_3x3"):
        retrain.main([f"--genotype={tmp_path / 'genotype.txt'}", f"--runs={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()


def test_config_json_of_a_run_is_valid_json(finished):
    json.loads((finished / "a" / "config.json").read_text())
