"""Whatever ends a command ends it with a message, and what has steps is saved first."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from dnas.app.ending import messages

ROOT = pathlib.Path(__file__).parents[2]
# The module alone: all of dnas takes seconds to import. What runs in the background has SIGINT
# ignored, and hands that on.
LOAD = """
import hashlib, importlib.util, os, pathlib, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
spec = importlib.util.spec_from_file_location("ending", "dnas/app/ending.py")
ending = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ending)
"""
STEPS = """
with ending.messages("--resume continues"):
    for step in range(600):
        asked = ending.ask_after(saves=True)
        if asked:
            pathlib.Path(sys.argv[1], "saved").write_text(asked)
            ending.end(f"saved at step {step}")
        print("step", flush=True)
        time.sleep(0.1)
"""
WAITS = """
with ending.messages("--resume continues"):
    print("step", flush=True)
    time.sleep(60)
"""
# The compiler of XLA is such a call.
CANNOT_BE_INTERRUPTED = """
with ending.messages("--resume continues"):
    print("step", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
NEVER_SAVES = """
with ending.messages("--resume continues"):
    ending.ask_after(saves=True)
    print("step", flush=True)
    while True:
        time.sleep(0.1)
"""
# An exception that is raised in a callback of the collector, Python only prints.
IN_A_CALLBACK = """
import gc
def callback(*_):
    print("step", flush=True)
    while ending._asked.number is None:
        time.sleep(0.01)
gc.callbacks.append(callback)
with ending.messages("--resume continues"):
    gc.collect()
    time.sleep(60)
"""
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def start(script, *args):
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD + script, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "step\n"
    return process


@pytest.mark.parametrize("name", SIGNALS)
def test_what_has_steps_is_saved_before_a_signal_ends_it(name, tmp_path):
    process = start(STEPS, tmp_path)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=10)
    assert process.returncode == SIGNALS[name]
    assert (tmp_path / "saved").read_text() == name
    assert f"{name}: the state is saved at the end of this step" in said
    assert f"; ended by {name}; --resume continues" in said and "saved at step" in said


@pytest.mark.parametrize("script", [WAITS, CANNOT_BE_INTERRUPTED, IN_A_CALLBACK])
@pytest.mark.parametrize("name", SIGNALS)
def test_what_has_nothing_to_save_ends_within_seconds(name, script):
    process = start(script)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=10)
    assert process.returncode == SIGNALS[name]
    assert said.strip() == f"ended by {name}; --resume continues"


def test_a_second_signal_ends_at_once():
    process = start(NEVER_SAVES)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_signal_that_the_process_was_told_to_ignore_stays_ignored(tmp_path):
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup does it
    process = start(ignoring + STEPS, tmp_path)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143


def test_handlers_are_those_of_before_when_a_command_has_ended():
    before = [signal.getsignal(signal.Signals[name]) for name in SIGNALS]
    with messages():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(signal.Signals[name]) for name in SIGNALS] == before
    number = signal.set_wakeup_fd(-1)
    assert number == -1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_nobody_reads_ends_nothing(stream, tmp_path):
    script = f"""
with ending.messages():
    print("step", flush=True)
    time.sleep(0.5)
    for number in range(1000):
        print("line " * 100, file=sys.{stream})
    pathlib.Path(sys.argv[1], "done").write_text("")
"""
    process = start(script, tmp_path)
    getattr(process, stream).close()
    assert process.wait(timeout=10) == 0
    assert (tmp_path / "done").exists()


def test_output_that_was_closed_from_the_start_goes_into_no_file(tmp_path):
    script = """
import os
with ending.messages():
    with open(sys.argv[1] + "/file", "w") as file:
        print("to nowhere", flush=True)
        os.write(1, b"to nowhere")
        os.write(2, b"to nowhere")
        file.write("mine")
"""
    command = f"{sys.executable} -c '{LOAD}{script}' {tmp_path} >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space", "/a/b"), "disk full at /a/b: free space; go on so"),
        (OSError(errno.EDQUOT, "Quota", "/a/b"), "disk full at /a/b: free space"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a: Read-only file system; give"),
        (OSError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied; give a place"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/b"), "/a/b: .* is a file"),
        (ConnectionError("no network"), "no network"),
        (ValueError("seed is 0 or more"), "seed is 0 or more"),
    ],
)
def test_what_a_person_can_mend_is_said_in_a_sentence(error, message):
    with pytest.raises(SystemExit, match=f"^error: {message}"), messages("go on so"):
        raise error


def test_a_fault_of_our_own_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), messages():
        1 / 0  # noqa: B018


@pytest.mark.parametrize("file", ["file", "file/below"])
def test_a_file_in_place_of_the_folder_of_runs_is_named(file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"file.*is a file and no folder"), messages():
        os.makedirs(tmp_path / file / "run")
