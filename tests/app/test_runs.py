import dataclasses
import json

import jax
import pytest

from dnas.app.checkpoints import Checkpoints
from dnas.app.config import SearchConfig, preset
from dnas.app.durable import unseal
from dnas.app.runs import (
    TRASH,
    Run,
    checked_name,
    differences,
    open_run,
    run_name,
    settings,
    settings_of_jax,
)


def config_in(folder, **changes):
    return dataclasses.replace(preset(SearchConfig, "digits"), runs=folder, **changes)


def test_config_json_holds_every_setting_versions_device_and_git_state(tmp_path):
    run = open_run(config_in(tmp_path), "search")
    config = run.read("config.json")
    assert config["settings"] == settings(config_in(tmp_path))
    left_out = {
        "resume",
        "overwrite",
        "runs",
        "checkpoint_seconds",
        "name",
        "data_dir",
        "benchmark",
        "file",
        "explain",
    }
    assert set(config["settings"]) | left_out == {
        field.name for field in dataclasses.fields(SearchConfig)
    }
    assert (
        {"jax", "flax", "optax", "numpy"} <= set(config["versions"])
        and config["device"]
        and "git" in config
    )


def test_an_interrupted_run_is_continued_only_when_asked(tmp_path):
    run = open_run(config_in(tmp_path), "search")
    with pytest.raises(ValueError, match=r"interrupted.*--resume"):
        open_run(config_in(tmp_path), "search")
    assert open_run(config_in(tmp_path, resume=True), "search").folder == run.folder


def test_a_finished_run_is_not_overwritten_by_accident(tmp_path):
    run = open_run(config_in(tmp_path), "search")
    run.write("summary.json", {"test_accuracy": 1.0})
    with pytest.raises(ValueError, match=r"finished.*--overwrite"):
        open_run(config_in(tmp_path), "search")
    assert open_run(config_in(tmp_path, overwrite=True), "search").read("summary.json") is None


def test_a_run_is_not_continued_with_other_settings(tmp_path):
    open_run(config_in(tmp_path, name="a"), "search")
    with pytest.raises(ValueError, match="epochs was 20, now 3"):
        open_run(config_in(tmp_path, name="a", epochs=3, resume=True), "search")


def test_a_folder_that_is_no_run_is_neither_used_nor_deleted(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("x")
    for changes in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match="not a run of dnas"):
            open_run(config_in(tmp_path, name="a", **changes), "search")
    assert (tmp_path / "a" / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize("name", ["../up", "a/b", "..", "/etc"])
def test_a_name_cannot_leave_the_folder_of_runs(tmp_path, name):
    with pytest.raises(ValueError, match="one folder"):
        run_name(config_in(tmp_path, name=name), "search")


def test_a_name_says_command_data_space_and_method(tmp_path):
    assert run_name(config_in(tmp_path), "search") == "search-digits-darts-darts1-seed0"
    changed = config_in(tmp_path, relax="gumbel_hard:temperature=2", space="s1", seed=3)
    assert run_name(changed, "search") == "search-digits-s1-darts1-gumbel_hard-seed3"


def test_settings_that_make_the_result_make_the_name(tmp_path):
    names = {
        run_name(config_in(tmp_path, seed=seed), command)
        for seed in (0, 1)
        for command in ("search", "retrain")
    }
    assert len(names) == 4


def test_rewind_removes_later_rows_of_the_phase_and_a_line_cut_short(tmp_path):
    run = Run(tmp_path)
    rows = [
        {"phase": phase, "step": step} for phase in ("search", "searched") for step in (1, 2, 3)
    ]
    for row in rows:
        run.append(row)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"phase": "sea')
    run.rewind("searched", 1)
    expected = [row for row in rows if row["phase"] == "search" or row["step"] <= 1]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert run.rows() == expected == [unseal(line) for line in lines]


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.write("summary.json", {"a": 1})
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("crash")))
    with pytest.raises(OSError, match="crash"):
        run.write("summary.json", {"a": 2})
    assert run.read("summary.json") == {"a": 1}


def test_a_run_is_moved_to_the_trash_and_none_is_deleted(tmp_path, capsys):
    for number in range(3):
        run = open_run(config_in(tmp_path, name="a", overwrite=True), "search")
        run.write("summary.json", {"number": number})
    kept = sorted((tmp_path / TRASH).iterdir())
    assert [Run(folder).read("summary.json")["number"] for folder in kept] == [0, 1]
    assert all(folder.name.startswith("a-") for folder in kept)
    assert str(kept[0]) in capsys.readouterr().err


def test_a_foreign_folder_with_a_config_json_is_not_moved(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text('{"model_type": "bert", "command": "search"}')
    with pytest.raises(ValueError, match="not a run of dnas"):
        open_run(config_in(tmp_path, name="a", overwrite=True), "search")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_to_a_run_is_not_moved(tmp_path):
    open_run(config_in(tmp_path, name="a"), "search")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match=f"is a link to {tmp_path / 'a'}"):
        open_run(config_in(tmp_path, name="b", overwrite=True), "search")
    assert open_run(config_in(tmp_path, name="b", resume=True), "search").read("config.json")


DAMAGES = {
    "empty": b"",
    "cut": b'{"command": "sea',
    "something else": b'{"model_type": "bert"}',
    "a list": b"[1]",
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_config_json_is_named_and_stands_in_nobodys_way(name, tmp_path):
    run = open_run(config_in(tmp_path, name="a"), "search")
    run.close()
    (run.folder / "config.json").write_bytes(DAMAGES[name])
    for changes in ({}, {"resume": True}):
        with pytest.raises(ValueError, match=r"config.json is damaged: .*--overwrite"):
            open_run(config_in(tmp_path, name="a", **changes), "search")
    assert open_run(config_in(tmp_path, name="a", overwrite=True), "search").read("config.json")


@pytest.mark.parametrize("field", ["seed", "learning_rate", "relax", "dtype"])
def test_a_config_json_that_somebody_has_edited_is_damaged(field, tmp_path):
    run = open_run(config_in(tmp_path, name="a"), "search")
    config = json.loads((run.folder / "config.json").read_text())
    config["settings"][field] = 1
    (run.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has changed since it was written"):
        open_run(config_in(tmp_path, name="a", resume=True), "search")


def test_a_run_without_its_config_json_is_not_taken_for_a_new_one(tmp_path):
    run = open_run(config_in(tmp_path, name="a"), "search")
    run.append({"phase": "search", "step": 1})
    (run.folder / "config.json").unlink()
    with pytest.raises(ValueError, match="has lost its config.json"):
        open_run(config_in(tmp_path, name="a", resume=True), "search")


JAX = {
    "jax_default_matmul_precision": "float32",
    "jax_enable_x64": True,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_threefry_partitionable": False,
}


@pytest.mark.parametrize("name", JAX)
def test_a_run_is_not_continued_with_other_settings_of_jax(name, tmp_path):
    open_run(config_in(tmp_path), "search")
    before = settings_of_jax()[name]
    jax.config.update(name, JAX[name])
    try:
        with pytest.raises(ValueError, match=f"{name} was {before!r}, now {JAX[name]!r}"):
            open_run(config_in(tmp_path, resume=True), "search")
    finally:
        jax.config.update(name, before)
    open_run(config_in(tmp_path, resume=True), "search")


def test_a_run_is_not_continued_with_other_flags_of_xla(tmp_path, monkeypatch):
    open_run(config_in(tmp_path), "search")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.raises(ValueError, match="XLA_FLAGS was .*fast_math"):
        open_run(config_in(tmp_path, resume=True), "search")


def test_a_run_is_not_continued_with_other_data(tmp_path):
    open_run(config_in(tmp_path), "search", {"data": "a", "space": "b"})
    with pytest.raises(ValueError, match="the data has changed since"):
        open_run(config_in(tmp_path, resume=True), "search", {"data": "c", "space": "b"})
    open_run(config_in(tmp_path, resume=True), "search", {"data": "a", "space": "b"})


def test_a_run_that_goes_on_elsewhere_says_so_and_keeps_where(tmp_path, monkeypatch, capsys):
    open_run(config_in(tmp_path), "search")
    monkeypatch.setattr("dnas.app.runs.digest_of_code", lambda: "other")
    for _ in range(2):
        run = open_run(config_in(tmp_path, resume=True), "search")
        assert "was begun with other code" in capsys.readouterr().err
    (other,) = run.read("config.json")["continued"]
    assert other["code"] == "other"


def test_a_folder_that_is_moved_ends_the_run_and_is_not_made_again(tmp_path):
    run = open_run(config_in(tmp_path, name="a"), "search")
    run.append({"phase": "search", "step": 1})
    run.folder.rename(tmp_path / "b")
    for write in (lambda: run.append({}), lambda: run.write("a/b.json", {}), run.check_there):
        with pytest.raises(ValueError, match="was moved or deleted while the run went on"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="was moved or deleted"):
        run.check_there()


def test_a_bad_line_is_left_out_and_no_row_after_it(tmp_path, capsys):
    run = Run(tmp_path)
    rows = [{"phase": "search", "step": step, "loss": 0.5} for step in range(5)]
    for row in rows:
        run.append(row)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    lines[1] = lines[1].replace(b"0.5", b"0.6")  # still JSON
    lines[2] = b"\xff" + lines[2][1:]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert run.rows() == [rows[0], *rows[3:]]
    said = capsys.readouterr().err
    assert "line 2 of" in said and "line 3 of" in said and "line 4" not in said
    assert run.rewind("search", 3) == 2
    assert path.read_bytes().splitlines() == lines[:4]
    assert not capsys.readouterr().err, "it is said once"


NAMES = [
    "[exp]",
    "a[0-9]",
    "a\\b",
    "*",
    "?",
    "{x}",
    "$HOME",
    "~",
    "%s",
    "#1",
    "a b",
    " a ",
    "'",
    '"',
    "-a",
    "--name",
    "a:b=c,d",
    "é",
    "日本",
    "🙂",
    "a\nb",
    "a.part",
    "config.json",
    "1",
    "con|<>",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(name, tmp_path, capsys):
    """As the folder of a run, and as one that it lies in."""
    for runs, own in ((tmp_path / name, "a"), (tmp_path / "runs", name)):
        run = open_run(config_in(runs, name=own), "search")
        run.append({"phase": "search", "step": 1})
        checkpoints = Checkpoints(run.folder / "checkpoints" / "search", run.identity())
        for step in range(3):
            checkpoints.save(step, {"x": jax.numpy.full(3, step)})
        run.close()
        run = open_run(config_in(runs, name=own, resume=True), "search")
        assert run.folder == runs / own and len(run.rows()) == 1
        checkpoints = Checkpoints(run.folder / "checkpoints" / "search", run.identity())
        assert checkpoints.steps() == [1, 2]
        assert checkpoints.restore({"x": jax.numpy.zeros(3, int)})[0]["x"].tolist() == [2, 2, 2]
        open_run(config_in(runs, name=own, overwrite=True), "search")
        assert len(list((runs / TRASH).iterdir())) == 1


@pytest.mark.parametrize("name", ["", ".", "..", TRASH, "a/b", "/a", "a/", "a\0"])
def test_what_is_no_name_of_a_folder_is_refused(name):
    with pytest.raises(ValueError, match="name is that of one folder"):
        checked_name(name)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not text in UTF-8"):
        open_run(config_in(tmp_path, name="a\udc80"), "search")
    assert not list(tmp_path.iterdir())


def test_a_result_that_is_damaged_is_made_again_by_the_run_and_named_to_readers(tmp_path, capsys):
    run = Run(tmp_path)
    run.write("phases/search.json", {"genotype": "a"})
    (tmp_path / "phases" / "search.json").write_text("{")
    assert run.result("phases/search.json") is None
    assert "search.json is damaged and made again" in capsys.readouterr().err
    with pytest.raises(ValueError, match="search.json is damaged: it is cut short"):
        run.read("phases/search.json")


def test_differences_name_leaves():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert differences(before, before) == []
    assert differences(before, {"a": {"b": 2, "c": [1]}, "e": 1}) == [
        ("b", 1, 2),
        ("c", [1, 2], [1]),
        ("e", None, 1),
    ]
