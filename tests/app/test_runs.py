import dataclasses
import json

import pytest

from dnas.app.config import SearchConfig, preset
from dnas.app.runs import Run, open_run, run_name, settings


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
    assert (
        run.rows()
        == expected
        == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    )


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.write("summary.json", {"a": 1})
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("crash")))
    with pytest.raises(OSError, match="crash"):
        run.write("summary.json", {"a": 2})
    assert run.read("summary.json") == {"a": 1}
