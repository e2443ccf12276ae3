"""What the chaos study says of an attempt, and that runs survive its short form."""

import json
import pathlib
import threading

import pytest

from dnas.app.outcomes import results
from dnas.app.processes import Ended
from experiments.studies import chaos
from experiments.studies.chaos import RAW, SILENT, SURVIVED, Attempt, ChaosCommand, Verdict
from experiments.studies.chaos_runs import WORKS

TRACEBACK = "Traceback (most recent call last):\n  File ...\nKeyError: 'command'"
REFUSAL = "error: config.json was cut; give another name"


@pytest.fixture
def stage(tmp_path):
    """A command that finds an accuracy of 0.5."""
    write(tmp_path / "expected", {"test_accuracy": 0.5, "seconds": 3.0})
    expected = results(tmp_path / "expected")
    return chaos.Stage(WORKS["whole"], tmp_path, expected, 1.0, 2.0, tmp_path, threading.Lock())


def write(folder: pathlib.Path, summary: dict) -> pathlib.Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(
    ("ended", "accuracy", "may_refuse", "outcome"),
    [
        (Ended(0, ""), 0.5, False, SURVIVED),
        (Ended(0, ""), 0.25, False, SILENT),
        (Ended(0, "warning: bits may differ"), 0.25, True, SILENT),
        (Ended(1, REFUSAL), 0.25, True, SURVIVED),
        (Ended(1, REFUSAL), 0.5, False, RAW),
        (Ended(1, TRACEBACK), 0.5, True, RAW),
        (Ended(1, ""), 0.5, True, RAW),
        (Ended(-11, ""), 0.5, True, RAW),
    ],
)
def test_a_command_survives_if_it_finds_the_same_or_says_why_not(
    stage, tmp_path, ended, accuracy, may_refuse, outcome
):
    folder = write(tmp_path / "found", {"test_accuracy": accuracy, "seconds": 9.0})
    assert stage.judge(folder, ended, may_refuse=may_refuse).outcome == outcome


def test_a_result_that_is_missing_or_cannot_be_read_is_silent(stage, tmp_path):
    assert stage.judge(tmp_path / "nothing", Ended(0, "")).outcome == SILENT
    folder = write(tmp_path / "found", {})
    (folder / "a" / "summary.json").write_text("{")
    assert stage.judge(folder, Ended(0, "")).outcome == SILENT


def test_the_table_counts_every_attempt_once():
    found = [
        (Attempt("kill", "text", number), Verdict(outcome))
        for number, outcome in enumerate((SURVIVED, SURVIVED, SILENT, RAW))
    ]
    last = chaos.table(found).splitlines()[-1]
    assert last == "| all |  | 4 | 2 | 1 | 1 |"


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="attack 'flood' is not known; choose from: kill"):
        chaos.plan_of(ChaosCommand(only="flood"))
    with pytest.raises(ValueError, match="command 'train' is not known; choose from: search"):
        chaos.plan_of(ChaosCommand(works="train"))


@pytest.mark.slow
def test_runs_survive_the_short_form(tmp_path):
    found = chaos.run(ChaosCommand(short=True), tmp_path)
    print(chaos.table(found))
    assert len(found) >= 10
    assert [verdict for _, verdict in found if verdict.outcome != SURVIVED] == []
