"""What is installed from the wheel is the whole product, and the library alone where no extra is
asked for."""

import pathlib
import re
import subprocess
import zipfile

import pytest
from test_readme import QUICKSTART

import dnas
from dnas.app.__main__ import COMMANDS
from experiments.studies.wheel import ROOT, build, install, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def library(wheel, tmp_path_factory):
    """The programs of an environment with the wheel alone."""
    return install(tmp_path_factory.mktemp("library"), str(wheel))


@pytest.fixture(scope="module")
def app(wheel, tmp_path_factory):
    """The programs of an environment with the extra app."""
    return install(tmp_path_factory.mktemp("app"), f"{wheel}[app]")


def said_by(programs, folder, *words):
    return run(programs, folder, *words, capture_output=True)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "dnas"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = set(zipfile.ZipFile(wheel).namelist())
    (about,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name for name in names if not name.startswith(about)} == set(listed.stdout.split())
    assert f"{about}/licenses/LICENSE" in names


def test_the_wheel_says_whose_it_is_which_and_under_which_licence(wheel):
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    about = zipfile.ZipFile(wheel).read(name).decode().partition("\n\n")[0].splitlines()
    assert f"Version: {dnas.__version__}" in about
    assert "License-Expression: Apache-2.0" in about and "License-File: LICENSE" in about
    assert "Author: the dnas authors" in about


def test_the_library_alone_runs_the_quickstart(library, tmp_path):
    done = said_by(library, tmp_path, "python", "-c", QUICKSTART)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^Genotype\(", done.stdout, re.MULTILINE)) == 1


def test_without_the_extra_a_command_says_what_to_install(library, tmp_path):
    assert said_by(library, tmp_path, "dnas", "--help").returncode == 0
    for name in ("search", "report"):
        done = said_by(library, tmp_path, "dnas", name, "--help")
        assert done.returncode == 1 and "pip install 'dnas[app]'" in done.stderr, name


@pytest.mark.parametrize("program", [("dnas",), ("python", "-m", "dnas.app")])
def test_with_the_extra_every_command_explains_its_settings(app, tmp_path, program):
    assert set(COMMANDS) <= set(said_by(app, tmp_path, *program, "--help").stdout.split())
    for name in COMMANDS:
        done = said_by(app, tmp_path, *program, name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: dnas {name} "), name
        assert f"Example: dnas {name} --" in done.stdout, name
        assert re.search(r"\((default: |required)", done.stdout), name


def test_a_search_from_the_wheel_ends_with_a_report(app, tmp_path):
    sizes = "--channels=2 --cells=1 --epochs=1 --steps=2 --batch-size=16 --images=80"
    sizes += " --retrain-channels=2 --retrain-cells=1 --retrain-epochs=1 --random-cells=0"
    done = said_by(app, tmp_path, "dnas", "search", "--name=a", *sizes.split())
    assert done.returncode == 0, done.stderr
    report = tmp_path / "runs" / "a" / "report.html"
    written = report.read_bytes()
    report.unlink()
    done = said_by(app, tmp_path, "dnas", "report", f"--run={pathlib.Path('runs') / 'a'}")
    assert done.returncode == 0, done.stderr
    assert report.read_bytes() == written


def test_a_table_that_comes_with_the_wheel_is_found(library, tmp_path):
    script = "import dnas; print(dnas.hw_loss.load_table('xeon-nasbench201-jax').device)"
    done = said_by(library, tmp_path, "python", "-c", script)
    assert done.returncode == 0 and "Xeon" in done.stdout, done.stderr
