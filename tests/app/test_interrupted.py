"""A run that was stopped within an epoch, or whose files were damaged since, ends as if nothing had
been."""

import itertools
import json
import random
import shutil

import jax
import pytest

from dnas.app import evaluate, pareto, search, study
from dnas.app.checkpoints import arrays_of
from dnas.app.runs import Run

TINY = [
    *("--channels=2", "--cells=1", "--epochs=2", "--batch-size=16", "--images=160"),
    *("--test-images=70", "--checkpoint-seconds=0"),
]
SEARCH = [*TINY, "--retrain=no"]
TRAINING = [*TINY, "--genotype=DARTS_V2", "--retrain-channels=2", "--retrain-cells=1"]
TRAINING += ["--retrain-epochs=2", "--retrain-batch-size=32", "--random-cells=0"]
TIMES = {"seconds", "seconds_per_step", "elapsed"}


@pytest.fixture(autouse=True)
def no_shared_cache(monkeypatch):
    """Leaves the compilation cache of the tests as conftest.py sets it."""
    monkeypatch.setattr("dnas.app.command.set_up_process", lambda: None)
    monkeypatch.setattr("dnas.app.evaluate.set_up_process", lambda: None)


def run(folder, *flags, settings=SEARCH):
    search.main([*settings, f"--runs={folder}", "--name=a", *flags])


def results(folder):
    """All that a run has found, but for its times: bits of every last state, rows, results."""
    own = Run(folder / "a")
    rows = [{name: row[name] for name in row if name not in TIMES} for row in own.rows()]
    summary = own.read("summary.json")
    states = {}
    for phase in sorted((own.folder / "checkpoints").iterdir()):
        newest = max(phase.iterdir(), key=lambda path: int(path.stem))
        states[phase.name] = {
            name: (array.dtype, array.shape, array.tobytes())
            for name, array in arrays_of(newest).items()
        }
    return {name: summary[name] for name in summary if name not in TIMES}, rows, states


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnas.app.command.set_up_process", lambda: None)
        run(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has trained a network that was given."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnas.app.command.set_up_process", lambda: None)
        run(folder, settings=TRAINING)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped within the second epoch of the search, which has five steps each."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnas.app.command.set_up_process", lambda: None)
        stop_within_an_epoch(patch)
        with pytest.raises(SystemExit) as ended:
            run(folder)
    assert ended.value.code == 143
    return folder


def stop_within_an_epoch(patch, step=7):
    """Has a signal arrive in this step of the search, of which there is one a call."""
    reports = itertools.count(1)

    def ask_after(*, saves):
        return "SIGTERM" if next(reports) == step else None

    def end(saved):
        raise SystemExit(143)

    patch.setattr("dnas.running.loop._SECONDS", 0.0)
    patch.setattr("dnas.app.ending.ask_after", ask_after)
    patch.setattr("dnas.app.ending.end", end)


def test_a_signal_within_an_epoch_loses_no_step_and_no_row(whole, stopped, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    (newest,) = sorted((folder / "a" / "checkpoints" / "search").iterdir())[-1:]
    assert int(newest.stem) % 5, "it was stopped within an epoch"
    run(folder, "--resume")
    assert results(folder) == results(whole)


def test_a_bit_that_flips_in_a_checkpoint_changes_nothing_but_is_said(
    whole, stopped, tmp_path, capsys
):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    (newest,) = sorted((folder / "a" / "checkpoints" / "search").iterdir())[-1:]
    content = bytearray(newest.read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 1
    newest.write_bytes(content)
    run(folder, "--resume")
    assert f"{newest.name} is damaged" in capsys.readouterr().err
    assert results(folder) == results(whole)


def test_without_any_checkpoint_that_is_whole_a_phase_begins_anew(whole, stopped, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    for path in (folder / "a" / "checkpoints" / "search").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    run(folder, "--resume")
    assert capsys.readouterr().err.count("is damaged") == 2
    assert results(folder) == results(whole)


@pytest.mark.parametrize("name", ["genotype.json", "genotype.txt"])
def test_a_genotype_for_other_programs_is_written_again(name, whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    path = folder / "a" / name
    before = path.read_text()
    path.write_text(before.replace("0", "1", 1))
    run(folder, "--resume")
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["phases/search.json", "phases/searched.json", "summary.json"])
def test_a_damaged_result_is_made_again(name, whole, trained, tmp_path, capsys):
    source, settings = (whole, SEARCH) if name == "phases/search.json" else (trained, TRAINING)
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    before = results(folder)
    path = folder / "a" / name
    path.write_text(path.read_text().replace("0", "1", 1))
    run(folder, "--resume", settings=settings)
    assert f"{path} is damaged" in capsys.readouterr().err or name == "summary.json"
    assert results(folder) == before


def test_a_checkpoint_of_another_seed_is_refused(whole, stopped, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    with pytest.MonkeyPatch.context() as patch:
        stop_within_an_epoch(patch)
        with pytest.raises(SystemExit):
            search.main([*SEARCH, f"--runs={tmp_path}", "--name=other", "--seed=1"])
    own, other = (tmp_path / name / "checkpoints" / "search" for name in ("copy/a", "other"))
    shutil.rmtree(own)
    shutil.copytree(other, own)
    with pytest.raises(SystemExit, match="of another run: seed is 1 there and 0 here"):
        run(folder, "--resume")


def test_a_reader_finds_damage_and_changes_nothing(trained, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    newest = max((folder / "a/checkpoints/searched").iterdir(), key=lambda path: int(path.stem))
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    (newest.parent / "1000.safetensors.part").write_bytes(b"of a writer")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    evaluate.main([f"--run={folder / 'a'}"])
    assert f"{newest.name} is damaged" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_continued_in_double_precision_is_refused(stopped, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(SystemExit, match="jax_enable_x64 was False, now True"):
            run(folder, "--resume")
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("command", [study, pareto])
def test_the_name_of_several_runs_cannot_leave_their_folder_either(command, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{command.__name__}.set_up_process", lambda: None)
    table = tmp_path / "table.csv"
    table.write_text("arch,accuracy\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,1\n")
    flags = [f"--benchmark={table}"] if command is study else ["--targets=1Mmacs"]
    with pytest.raises(SystemExit, match="name is that of one folder, got '../x'"):
        command.main([*flags, f"--runs={tmp_path / 'runs'}", "--name=../x"])
    assert not (tmp_path / "x").exists()


def test_config_json_tells_the_run(whole):
    config = json.loads((whole / "a" / "config.json").read_text())
    assert set(config["reads"]) == {"data", "space"} and len(config["id"]) == 32
    assert {"XLA_FLAGS", "jax_enable_x64", "jax_default_matmul_precision"} <= set(config["jax"])
