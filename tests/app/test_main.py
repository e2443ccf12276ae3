"""The program finds commands by their names, and says what is missing or mistyped."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import dnas
from dnas.app.__main__ import COMMANDS, main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def called(monkeypatch):
    """The words that each command was given, none of which runs."""
    found = []
    for name, command in COMMANDS.items():
        module = importlib.import_module(f"dnas.app.{command.module}")
        monkeypatch.setattr(module, "main", lambda args, name=name: found.append(args))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_given_the_words_after_its_name(name, called):
    main([name, "--seed=1", "rest"])
    assert called == [[*COMMANDS[name].words, "--seed=1", "rest"]]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_command_and_says_what_it_does(words, capsys, called):
    main(words)
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.does)}$", shown, re.MULTILINE)
    assert not called


def test_version_is_that_of_the_package(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"dnas {dnas.__version__}\n"


@pytest.mark.parametrize(
    ("given", "meant"), [("serach", "search"), ("paretto", "pareto"), ("tables", "table")]
)
def test_a_mistyped_command_is_answered_with_the_nearest(given, meant, called):
    with pytest.raises(SystemExit, match=f"no command '{given}'; did you mean '{meant}'"):
        main([given])
    assert not called


def test_what_is_near_to_no_command_is_answered_with_all(called):
    with pytest.raises(SystemExit) as ended:
        main(["xyz"])
    assert "did you mean" not in str(ended.value)
    assert all(name in str(ended.value) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_explains_each_of_its_settings(name, monkeypatch, capsys):
    module = importlib.import_module(f"dnas.app.{COMMANDS[name].module}")
    for owner in (module, importlib.import_module("dnas.app.command")):
        monkeypatch.setattr(owner, "set_up_process", lambda: None, raising=False)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: dnas {name} ")
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", shown).split())
    assert f"Example: dnas {name} --" in words
    settings = re.findall(r"(?m)^\W*(?:-h, )?(--[a-z0-9-]+)", shown)
    assert len(set(settings)) > 1
    typed_elsewhere = re.findall(r"\bmake [a-z]+ [A-Z]|\b[A-Z_]{3,}=\S*", words)
    assert not typed_elsewhere, "settings are named as they are typed here"


def said_by(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it():
    script = "import sys; sys.modules['jinja2'] = None; from dnas.app.__main__ import main;"
    done = said_by(sys.executable, "-c", script + "main(['report', '--run=runs/a'])")
    assert done.returncode == 1
    assert "dnas report needs the package jinja2" in done.stderr
    assert "pip install 'dnas[app]'" in done.stderr


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra():
    script = "import sys; sys.modules['dnas.app.pages'] = None; from dnas.app.__main__ import main;"
    done = said_by(sys.executable, "-c", script + "main(['report', '--run=runs/a'])")
    assert "ModuleNotFoundError" in done.stderr and "pip install" not in done.stderr


def test_the_module_is_the_program():
    done = said_by(sys.executable, "-m", "dnas.app", "evaluate", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: dnas evaluate ")
    done = said_by(sys.executable, "-m", "dnas.app", "evaluate", "--rum=runs/a")
    assert done.returncode == 2 and "--rum" in done.stderr and "--run" in done.stderr
