"""`dnas verify-resume` says that runs are lost where they are, and only there."""

import random
import signal
import sys

import pytest

from dnas.app import verify_resume
from dnas.app.__main__ import main
from dnas.app.config import SearchConfig, parse
from dnas.app.processes import Process
from dnas.app.verify_resume import VerifyResumeCommand, end_at, search_words, verify

SMALL = (
    *("--space=nasbench201", "--channels=2", "--cells=3", "--batch-size=16", "--images=80"),
    *("--test-images=70", "--retrain=0"),
)

# What stands in for a command of dnas: it counts to five in a file, and goes on from where it was.
PROGRAM = """
import json, pathlib, sys, time
words = dict(word.partition("=")[::2] for word in sys.argv[1:])
folder = pathlib.Path(words["--runs"]) / words["--name"]
folder.mkdir(parents=True, exist_ok=True)
path = folder / "summary.json"
resumes = "--resume" in words and path.exists()
state = json.loads(path.read_text()) if resumes else {"steps": 0, "lost": 0, "seconds": time.time()}
if "--lose" in words:
    state["lost"] += resumes
for step in range(state["steps"], 5):
    time.sleep(0.1)
    (folder / "part").write_text(json.dumps(state | {"steps": step + 1}))
    (folder / "part").rename(path)
if "--random" in words:
    path.write_text(json.dumps({"steps": time.time()}))
if "--fail" in words or ("--fail-later" in words and "--resume" in words):
    sys.exit("error: no way on")
"""


@pytest.fixture
def counting(monkeypatch):
    """Commands of dnas are that program."""

    def process(words, cache):
        return Process(words, cache, before=(sys.executable, "-c", PROGRAM))

    monkeypatch.setattr(verify_resume, "Process", process)
    # Halfway, when there is something to go on with.
    monkeypatch.setattr(random, "uniform", lambda least, most: least + 0.7 * (most - least))


def test_what_goes_on_from_where_it_was_is_the_same(counting, tmp_path, capsys):
    assert verify(["count"], tmp_path, 2)
    *_, first, second, last = capsys.readouterr().out.splitlines()
    assert all(line.endswith("resumed: the same") for line in (first, second))
    assert last == "2 of 2 that were killed ended with every bit of the one left alone"


def test_what_differs_is_named(counting, tmp_path, capsys):
    assert not verify(["count", "--lose"], tmp_path, 1)
    *_, line, last = capsys.readouterr().out.splitlines()
    assert line.endswith("resumed: it DIFFERS in search/summary.json: lost")
    assert last.startswith("0 of 1")


def test_what_does_not_go_on_is_quoted(counting, tmp_path, capsys):
    assert not verify(["count", "--fail-later"], tmp_path, 1)
    assert "resumed: it FAILED: error: no way on" in capsys.readouterr().out


def test_nothing_is_told_of_a_command_that_fails_or_never_does_the_same(counting, tmp_path):
    with pytest.raises(ValueError, match="undisturbed command fails: error: no way on"):
        verify(["count", "--fail"], tmp_path / "fails", 1)
    with pytest.raises(ValueError, match=r"two undisturbed runs differ in search/summary\.json"):
        verify(["count", "--random"], tmp_path / "random", 1)


def test_what_ends_too_soon_to_be_killed_is_started_again(tmp_path):
    def start(folder):
        folder.mkdir()
        return Process([], tmp_path, before=(sys.executable, "-c", "import time; time.sleep(0.5)"))

    seconds, ended = end_at(0.8, start, tmp_path / "run", signal.SIGKILL)
    assert seconds < 0.8 and ended.code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kills=0"], "kills is a number of at least 1"),
        (["--name=mine"], "--name is not for this command"),
        (["--resume"], "--resume is not for this command"),
    ],
)
def test_what_the_check_decides_itself_is_refused(words, message, capsys):
    with pytest.raises(SystemExit, match=message):
        main(["verify-resume", *words])


def test_a_search_is_short_unless_its_settings_say_otherwise():
    given = search_words(VerifyResumeCommand(), ["--epochs=9"])
    assert parse(SearchConfig, given[1:]).epochs == 9
    assert parse(SearchConfig, given[1:]).images == 256
    words = search_words(VerifyResumeCommand(), ["--space=recurrent"])
    assert not any("images" in word for word in words)  # which a search on a text does not know


@pytest.mark.slow
def test_a_real_search_is_resumed_bit_by_bit(capsys):
    main(["verify-resume", "--kills=2", *SMALL])
    assert "2 of 2 that were killed" in capsys.readouterr().out
