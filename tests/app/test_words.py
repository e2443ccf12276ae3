"""Words of a command line become settings, or are refused by name; --help explains all settings."""

import dataclasses
import pathlib
from typing import Literal

import pytest

from dnas.app.words import read_known, read_words


@dataclasses.dataclass(frozen=True)
class Common:
    """What all have."""

    name: str | None = None
    """Of the folder."""
    seed: int = 0
    """Of everything random."""


@dataclasses.dataclass(frozen=True)
class Walk(Common):
    """Walks.

    There and, where wanted, back.

    Example: dnas walk --steps=3
      --back
    """

    steps: int | None = None
    """How many, if not
    for ever."""
    length: float = 0.5
    """Of a step."""
    back: bool = False
    """Whether it returns."""
    pace: Literal["slow", "fast"] | None = "slow"
    """Of all of it."""
    map_file: pathlib.Path = pathlib.Path("here")
    """Where."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """Walks somewhere."""

    goal: str
    """Where to."""


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ([], {}),
        (
            ["--steps=3", "--length=1e-3", "--pace=fast"],
            {"steps": 3, "length": 1e-3, "pace": "fast"},
        ),
        (["--steps", "3", "--back", "--seed", "-1"], {"steps": 3, "back": True, "seed": -1}),
        (["--pace=None", "--name=None", "--pace=fast"], {"pace": "fast"}),
        (["--map-file=a/b=c"], {"map_file": pathlib.Path("a/b=c")}),
        (["--map_file=~/x"], {"map_file": pathlib.Path.home() / "x"}),
        (["--name=--odd", "--name="], {"name": ""}),
        (["--seed=1", "--seed=2"], {"seed": 2}),
    ],
)
def test_words_become_values_of_the_type_of_their_setting(args, changes):
    assert read_words(Walk, args) == dataclasses.replace(Walk(), **changes)


@pytest.mark.parametrize("yes", ["--back", "--back=1", "--back=yes", "--back=True", "--back yes"])
def test_yes_may_be_said_in_all_ways_in_which_people_say_it(yes):
    no = yes.replace("1", "0").replace("yes", "no").replace("True", "FALSE")
    assert read_words(Walk, yes.split()).back
    if no != yes:
        assert not read_words(Walk, no.split(), Walk(back=True)).back


def test_what_is_not_given_is_as_in_the_default():
    default = Walk(steps=7, back=True)
    assert read_words(Walk, ["--seed=3"], default) == dataclasses.replace(default, seed=3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stesp=3"], "--stesp"),
        (["3"], "3"),
        (["--steps"], "--steps"),
        (["--steps=3.0"], "--steps"),
        (["--seed=None"], "--seed"),
        (["--length=long"], "--length"),
        (["--back=maybe"], "--back"),
        (["--pace=quick"], "slow"),
    ],
)
def test_mistakes_are_named_as_they_are_typed(args, message, capsys):
    with pytest.raises(SystemExit) as ended:
        read_words(Walk, args)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_a_setting_without_a_default_has_to_be_given(capsys):
    with pytest.raises(SystemExit):
        read_words(Bound, [])
    assert "--goal" in capsys.readouterr().err
    assert read_words(Bound, ["--goal=home"]).goal == "home"


def test_words_for_somebody_else_are_handed_on_in_their_order():
    settings, rest = read_known(Common, ["--steps", "3", "--seed=1", "--back", "--steps=4"])
    assert settings == Common(seed=1)
    assert read_words(Walk, rest) == Walk(steps=4, back=True)


def test_help_has_every_setting_and_what_it_is(capsys):
    with pytest.raises(SystemExit) as ended:
        read_words(Walk, ["--help"])
    page = capsys.readouterr().out
    assert not ended.value.code and "There and, where wanted, back." in page
    for field in dataclasses.fields(Walk):
        assert f"--{field.name.replace('_', '-')}" in page
    assert "Whether it returns." in page and "Of everything random." in page


def test_help_has_a_box_for_the_settings_of_each_class(capsys):
    with pytest.raises(SystemExit):
        read_words(Walk, ["--help"])
    walk, common = capsys.readouterr().out.split("common options")
    assert "walk options" in walk and "--steps" in walk and "--seed" not in walk
    assert "--name" in common and "--seed" in common


def test_a_word_that_is_no_name_of_a_setting_is_refused_at_once():
    with pytest.raises(ValueError, match="a word of 10,00[0-9] characters gives no setting: --xxx"):
        read_words(Walk, ["--" + "x" * 10_000 + "=3"])
    with pytest.raises(ValueError, match="a word of 8,000 characters gives no setting: --0thod=-"):
        read_words(Walk, ["--0thod=" * 1000])
