"""Words of a command line become settings, or are refused by name; --help explains all settings."""

import dataclasses
import pathlib
from typing import Literal

import pytest

from dnas.app.words import explain, read_known, read_words


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
        (["--stesp=3"], "there is no setting --stesp; did you mean --steps?"),
        (["--zzz"], "there is no setting --zzz; --help lists all"),
        (["3"], "'3' is no setting"),
        (["-x"], "'-x' is no setting"),
        (["--steps"], "--steps needs a value: --steps=N"),
        (["--steps", "--back"], "--steps needs a value"),
        (["--steps=3.0"], "--steps is a whole number; got '3.0'"),
        (["--steps="], "--steps is a whole number; got ''"),
        (["--seed=None"], "--seed is a whole number; got 'None'"),
        (["--length=long"], "--length is a number; got 'long'"),
        (["--back=maybe"], "--back is yes or no; got 'maybe'"),
        (["--pace=quick"], "--pace is one of slow, fast; got 'quick'"),
    ],
)
def test_mistakes_are_named_as_they_are_typed(args, message):
    with pytest.raises(ValueError) as found:
        read_words(Walk, args)
    assert message in str(found.value)


def test_a_setting_without_a_default_has_to_be_given():
    with pytest.raises(ValueError, match="give --goal=TEXT: Where to$"):
        read_words(Bound, [])
    with pytest.raises(ValueError, match="no setting --gaol; did you mean --goal"):
        read_words(Bound, ["--gaol=home"])
    assert read_words(Bound, ["--goal=home"]).goal == "home"


def test_words_for_somebody_else_are_handed_on_in_their_order():
    settings, rest = read_known(Common, ["--steps", "3", "--seed=1", "--back", "--steps=4"])
    assert settings == Common(seed=1)
    assert read_words(Walk, rest) == Walk(steps=4, back=True)


def test_the_page_has_every_setting_once_with_what_it_is_its_default_and_where_it_is_from(capsys):
    page = explain(Walk, Walk(steps=5))
    assert page.startswith("Walks.\n\nThere and, where wanted, back.\n\nfor example:\n  dnas walk")
    assert "--steps=3 --back\n" in page
    own, common = page.split("What all have:")
    assert "  --steps=N                   How many, if not for ever. [5]\n" in own
    assert "  --back=yes|no               Whether it returns. [no]\n" in own
    assert "  --pace=slow|fast            Of all of it. [slow]\n" in own
    assert "  --name=TEXT                 Of the folder.\n" in common and "--seed=N" in common
    for field in dataclasses.fields(Walk):
        assert page.count(f"\n  --{field.name.replace('_', '-')}=") == 1
    assert "--goal=TEXT                 Where to. (needed)" in explain(Bound)
    with pytest.raises(SystemExit) as ended:
        read_words(Walk, ["--steps=5", "--help"])
    assert ended.value.code is None and capsys.readouterr().out.startswith("Walks.")
