"""The job on a text, from a file to a report, at the smallest size."""

import dataclasses
import gzip
import json
import pathlib
import pydoc_data.topics
import shutil

import numpy as np
import pytest

import dnas
from dnas import hw_loss
from dnas.app import exporting, report, search, text
from dnas.app.config import parse
from dnas.app.evaluate import evaluate
from dnas.app.runs import Run
from dnas.app.text import TextConfig
from dnas.methods import Stage, published
from dnas.spaces import recurrent_space

TINY = [
    *(
        "--space=recurrent",
        "--channels=4",
        "--epochs=2",
        "--batch-size=3",
        "--window=5",
        "--retrain-channels=4",
    ),
    *("--retrain-epochs=2", "--retrain-batch-size=3", "--random-cells=1", "--checkpoint-seconds=0"),
]


@pytest.fixture(autouse=True, scope="module")
def small_space():
    """One node compiles sooner than eight; the compilation cache of the tests stays as conftest.py
    sets it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dnas.SPACES, "recurrent", recurrent_space(num_nodes=1))
        patch.setattr("dnas.app.command.set_up_process", lambda: None)
        yield


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "book.txt"
    path.write_text(
        "The cat sat on the mat, and the dog — a müde dog — sat on the cat.\n" * 40, "utf-8"
    )
    return path


@pytest.fixture(scope="module")
def finished(book, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    search.main([*TINY, f"--text={book}", f"--runs={runs}", "--name=a"])
    return runs / "a"


def test_summary_has_the_perplexity_beside_that_of_the_unigram_model_and_the_random_cell(
    finished, book
):
    summary = Run(finished).read("summary.json")
    read = dnas.read_text(book.read_text("utf-8"))
    assert summary["unigram_perplexity"] == dnas.unigram_perplexity(
        read.train, read.test, len(read.vocabulary)
    )
    assert summary["tokens"] == {
        "train": len(read.train),
        "valid": len(read.valid),
        "test": len(read.test),
    }
    assert summary["test_perplexity"] > 1 and len(summary["random_perplexities"]) == 1
    genotype = dnas.Genotype.from_text(summary["genotype"])
    dnas.check_genotype(dnas.SPACES["recurrent"], genotype)
    assert (finished / "genotype.txt").read_text() == genotype.to_text() + "\n"
    vocabulary = Run(finished).read("text.json")["vocabulary"]
    assert summary["params"] == len(vocabulary) * 5 + 8 * 8 + 4 * 8


def test_report_shows_perplexities_and_names_the_unigram_model(finished):
    html, summary = (finished / "report.html").read_text(), Run(finished).read("summary.json")
    for value in (
        summary["test_perplexity"],
        summary["unigram_perplexity"],
        *summary["random_perplexities"],
    ):
        assert f"{value:.2f}" in html
    assert "unigram model" in html and "mean of" not in html.split("<svg")[0]
    assert (finished / "curves.png").stat().st_size > 1000 and (
        finished / "logits.png"
    ).stat().st_size > 1000


def test_metrics_have_a_row_for_every_epoch_of_every_phase(finished):
    rows = Run(finished).rows()
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        (phase, epoch) for phase in ("search", "searched", "random_0") for epoch in (1, 2)
    ]
    assert all("valid_perplexity" in row for row in rows if row["phase"] != "search")


def test_a_finished_run_is_only_repeated_when_told_so_and_a_resumed_one_ends_alike(
    finished, book, tmp_path
):
    with pytest.raises(SystemExit, match="--resume"):
        search.main([*TINY, f"--text={book}", f"--runs={finished.parent}", "--name=a"])
    search.main([*TINY, f"--text={book}", f"--runs={finished.parent}", "--name=a", "--resume"])
    before = Run(finished).read("summary.json")
    # The same run, whose second half is lost: phases go on from their checkpoints.
    for name in ("phases/searched.json", "phases/random_0.json", "summary.json"):
        (finished / name).unlink()
    search.main([*TINY, f"--text={book}", f"--runs={finished.parent}", "--name=a", "--resume"])
    after = Run(finished).read("summary.json")
    assert {**after, "seconds": None} == {**before, "seconds": None}


def test_the_report_is_written_again_from_the_folder_alone(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "read_source", lambda _: pytest.fail("the text was read"))
    pages, copy = ("report.html", "cells.svg", "curves.png", "logits.png"), tmp_path / "a"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("checkpoints", *pages))
    report.main([f"--run={copy}"])
    for name in (*pages, "summary.json"):
        assert (copy / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_trained_network_scores_the_same_when_it_is_read_back(finished):
    scores = evaluate(finished)
    assert set(scores) == {"searched", "random_0"}
    assert all(before == now for before, now in scores.values())


def test_a_given_cell_is_trained_and_none_searched(book, tmp_path):
    given = "Genotype(recurrent=[('relu', 0)], concat=range(1, 2))"
    search.main(
        [
            *TINY,
            f"--text={book}",
            f"--runs={tmp_path}",
            "--name=c",
            f"--genotype={given}",
            "--random-cells=0",
        ]
    )
    assert Run(tmp_path / "c").read("summary.json")["genotype"] == given
    assert {row["phase"] for row in Run(tmp_path / "c").rows()} == {"searched"}
    assert not (tmp_path / "c" / "logits.png").exists()


@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_a_trained_language_model_is_written_and_writes_on_from_a_state(name, book, tmp_path):
    exporter = exporting.EXPORTERS[name]
    for package, install in exporter.packages.items():
        pytest.importorskip(package, reason=f"it is not installed: {install}")
    genotype = dnas.Genotype("recurrent", {"recurrent": [(0, 1, "relu")]}).to_text()
    flags = [
        f"--text={book}",
        f"--runs={tmp_path}",
        "--name=a",
        f"--genotype={genotype}",
        "--random-cells=0",
        f"--{name}=1",
    ]
    search.main([*TINY, *flags])
    written = Run(tmp_path / "a").read(f"phases/{name}.json")
    assert written["file"] == exporter.file and written["largest_difference"] < 1e-4
    read = exporter.load((tmp_path / "a" / exporter.file).read_bytes())
    hidden, token = np.zeros((1, 4), np.float32), np.zeros((1, 1), np.int32)
    for _ in range(3):
        found = read({"tokens": token, "hidden": hidden})
        token, hidden = found["logits"].argmax(-1).astype(np.int32), found["states"][:, -1]
    assert np.isfinite(found["logits"]).all() and hidden.any()


def test_rules_and_targets_of_images_are_those_of_texts(book, tmp_path):
    parts = dnas.SPACES["recurrent"].parts(channels=4, num_classes=vocabulary_of(book))
    costs = {"tanh": 9.0, "sigmoid": 9.0, "relu": 2.0, "identity": 3.0}
    rows = {
        ("latency", part): hw_loss.Cost(costs.get(part.op, 1.0), 0.0, 1)
        for part in parts.distinct()
    }
    table = hw_loss.CostTable("elsewhere", "test", 1, "today", "test", rows)
    hw_loss.write_table(table, tmp_path / "table.csv")
    flags = [f"--text={book}", f"--runs={tmp_path}", "--name=a", "--retrain=0"]
    flags += [f"--table={tmp_path / 'table.csv'}", "--target=4.5ms"]
    flags += ["--rule=best_sample:num_samples=2"]
    search.main([*TINY, *flags])
    summary = Run(tmp_path / "a").read("summary.json")
    assert summary["costs"][0]["predicted"] == 4.0 and "relu" in summary["genotype"]
    assert "not measured" in summary["costs"][0]["note"]
    rows = Run(tmp_path / "a").rows()
    assert "latency_weight" in rows[-1] and "sample_accuracy" in rows[-1]


def vocabulary_of(book):
    return len(dnas.read_text(book.read_text("utf-8")).vocabulary)


def test_a_search_of_stages_goes_on_from_the_stage_before(book, tmp_path, monkeypatch):
    began = []

    def begin(state, before):
        began.append(before.genotype)
        return state._replace(weights=before.state.weights, arch=before.state.arch)

    @published("x", "https://example.org", settings={"recurrent": {}}, space="recurrent")
    def twice(space, training):
        made = dnas.METHODS["darts1"].build(space, training, relaxation=dnas.softmax())
        made = made._replace(training=training)
        return made._replace(stages=[Stage(made, begin=begin)])

    monkeypatch.setitem(dnas.METHODS, "twice", twice)
    flags = [f"--text={book}", f"--runs={tmp_path}", "--name=a", "--retrain=0"]
    search.main([*TINY, *flags, "--method=twice", "--epochs=1"])
    rows = Run(tmp_path / "a").rows()
    assert {row["phase"] for row in rows} == {"search_stage_1", "search"} and len(began) == 1


@pytest.mark.slow
def test_a_text_that_has_changed_is_not_resumed(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one two three four five.\n" * 60)
    flags = [
        *TINY,
        f"--text={path}",
        f"--runs={tmp_path}",
        "--name=b",
        "--steps=1",
        "--retrain-steps=1",
        "--random-cells=0",
    ]
    search.main(flags)
    path.write_text("one two three four six.\n" * 60)
    with pytest.raises(SystemExit, match="the text has changed"):
        search.main([*flags, "--resume"])


def test_a_folder_holds_the_three_parts(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(f"a b <unk> {part} \n" * 3)
    config = dataclasses.replace(TextConfig(), text=str(tmp_path), tokens="blanks", min_count=1)
    read = dnas.read_text(text.read_source(config), tokens="blanks", min_count=1)
    assert set(read.vocabulary) == {"a", "b", "<unk>", "train", "<eos>"}
    assert [len(part) for part in read[:3]] == [15, 15, 15]


def test_the_text_unless_given_is_that_of_pythons_help():
    assert text.read_source(TextConfig()).startswith(next(iter(pydoc_data.topics.topics.values())))


def test_published_sizes_are_those_of_the_paper():
    config = parse(TextConfig, ["--sizes=published"], find_layers=text.text_layers)
    assert (
        config.channels,
        config.retrain_channels,
        config.batch_size,
        config.retrain_batch_size,
    ) == (300, 850, 256, 64)
    assert (config.epochs, config.retrain_epochs, config.window, config.clip) == (
        50,
        8000,
        35,
        0.25,
    )
    assert (config.learning_rate, config.min_learning_rate, config.retrain_learning_rate) == (
        20.0,
        20.0,
        20.0,
    )
    assert (config.weight_decay, config.retrain_weight_decay, config.slowness, config.momentum) == (
        5e-7,
        8e-7,
        1e-3,
        0.0,
    )
    assert (config.arch_learning_rate, config.arch_b1, config.arch_weight_decay) == (
        3e-3,
        0.9,
        1e-3,
    )
    assert text._dropout(config) == dnas.spaces.Dropout() and config.dropout_words == 0.1


REFUSED = {
    "no file": (["--text=nowhere.txt"], "there is no nowhere.txt"),
    "genotype": (["--genotype=DARTS_V2"], "'darts'"),
    "sizes": (["--sizes=large"], "choose from: published, small"),
    "relaxation": (["--relax=hardmax"], "'hardmax' is not known"),
    "batch": (["--batch-size=99999"], "lower the batch size"),
    "dropout": (["--dropout-output=1"], "up to but not 1"),
    "single level": (["--optimizer=single_level", "--warmup=0.5"], "no arch step of its own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_there_is_a_folder(name, tmp_path):
    flags, reason = REFUSED[name]
    with pytest.raises(SystemExit, match=reason):
        search.main(["--space=recurrent", f"--runs={tmp_path}", *flags])
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)))
    with pytest.raises(SystemExit, match="not text in UTF-8"):
        search.main(
            ["--space=recurrent", f"--text={tmp_path / 'noise.txt'}", f"--runs={tmp_path / 'runs'}"]
        )


def test_a_text_is_read_alike_whatever_wrote_it(tmp_path):
    """Marks, line ends and compression are no part of it; of the three parts of a folder too."""
    raw = "the cat\nsat\n"
    (tmp_path / "plain.txt").write_text(raw)
    (tmp_path / "windows.txt").write_bytes(raw.replace("\n", "\r\n").encode("utf-8-sig"))
    (tmp_path / "packed.txt").write_bytes(gzip.compress(raw.encode()))
    for name in ("plain", "windows", "packed"):
        config = text.TextConfig(text=f"{name}.txt", data_dir=tmp_path)
        assert text.read_source(config) == raw
    (tmp_path / "parts").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "parts" / f"{part}.txt").write_text(part, encoding="utf-8-sig")
    config = text.TextConfig(text=str(tmp_path / "parts"))
    assert text.read_source(config) == ["train", "valid", "test"]
    (tmp_path / "parts" / "valid.txt").unlink()
    with pytest.raises(ValueError, match="there is no .*valid.txt; --text is a file, or a folder"):
        text.read_source(config)


@pytest.mark.slow
def test_cell_searched_and_trained_on_the_help_of_python_ends_well_below_its_unigram_model(
    tmp_path,
):
    """The job as it is, but shorter: one epoch of search and three of training."""
    root = pathlib.Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dnas.SPACES, "recurrent", recurrent_space())
        patch.chdir(root)
        flags = ["--space=recurrent", f"--runs={tmp_path}", "--name=run", "--random-cells=0"]
        search.main([*flags, "--epochs=1", "--steps=60", "--retrain-epochs=3"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_perplexity"] < 0.6 * summary["unigram_perplexity"]
