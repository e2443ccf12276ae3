"""A folder is held by one process, for as long as that lives."""

import errno
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from dnas.app import locks

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("locks", "dnas/app/locks.py")
locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locks)
lock = locks.take(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_that_a_live_process_holds_is_refused_with_its_number(other, tmp_path):
    with pytest.raises(
        ValueError, match=f"in use by process {other.pid} on {socket.gethostname()}"
    ):
        locks.take(tmp_path)


def test_a_process_that_was_killed_holds_nothing(other, tmp_path):
    other.kill()
    other.communicate()
    lock = locks.take(tmp_path)
    assert json.loads((tmp_path / locks.NAME).read_text())["pid"] == os.getpid()
    lock.close()
    assert locks.is_marked(tmp_path) and (tmp_path / locks.NAME).read_text() == ""


def test_within_a_process_a_folder_has_one_lock_whatever_it_is_called(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    lock = locks.take(tmp_path / "a")
    assert locks.take(tmp_path / "b") is lock
    lock.close()
    assert locks.take(tmp_path / "a").held


def test_a_folder_of_several_runs_has_a_lock_beside_those_of_runs(tmp_path):
    folder = tmp_path / "study"
    with locks.held(folder):
        assert [path.name for path in folder.iterdir()] == [locks.SEVERAL]
        assert not locks.is_marked(folder)
        assert locks.take(folder, locks.SEVERAL).held
        locks.take(folder).close()
    assert (folder / locks.SEVERAL).read_text() == "", "it is let go"


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that has none."""

    def flock(file, how):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)


HERE = {"host": socket.gethostname(), "since": "now"}


@pytest.mark.parametrize(
    ("holder", "lives"),
    [
        ("", False),
        ("half of a li", False),
        ({**HERE, "pid": os.getppid(), "started": locks._start_of(os.getppid())}, True),
        # the number is used again
        ({**HERE, "pid": os.getppid(), "started": "1"}, False),
        ({**HERE, "pid": 2**22 + 1, "started": "1"}, False),
        ({**HERE, "host": "elsewhere", "pid": 1, "started": "1"}, True),
    ],
)
def test_without_locks_of_the_system_the_file_says_who_lives(holder, lives, no_locks, tmp_path):
    text = holder if isinstance(holder, str) else json.dumps(holder)
    (tmp_path / locks.NAME).write_text(text)
    if lives:
        with pytest.raises(ValueError, match=r"in use by process .* delete"):
            locks.take(tmp_path)
        return
    locks.take(tmp_path)
    assert json.loads((tmp_path / locks.NAME).read_text())["pid"] == os.getpid()
