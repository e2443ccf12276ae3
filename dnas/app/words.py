"""The words of a command line as a dataclass of settings, and mistakes that a person can read."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

Settings = TypeVar("Settings")

_YES_OR_NO = {
    "1": "True",
    "true": "True",
    "yes": "True",
    "0": "False",
    "false": "False",
    "no": "False",
}


def read_words(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> Settings:
    """Returns the settings that words give, on top of `default`; ends the program with a message
    for words that are no settings, and with a page of all settings for --help.

    A setting of yes or no may stand alone: --resume, --resume=1 or --resume=True. Paths may begin
    with ~, which make passes on as it is.
    """
    options = (tyro.conf.FlagConversionOff,)
    words = _spell_out(kind, args)
    return _at_home(tyro.cli(kind, args=words, default=default, config=options))


def read_known(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> tuple[Settings, list[str]]:
    """Returns what `read_words` does of the words that give these settings, and all other words."""
    options = (tyro.conf.FlagConversionOff,)
    words = _spell_out(kind, args)
    settings, rest = tyro.cli(
        kind, args=words, default=default, config=options, return_unknown_args=True
    )
    return _at_home(settings), rest


def _spell_out(kind: type, args: Sequence[str]) -> list[str]:
    """The arguments with settings of yes or no spelt as tyro reads them."""
    flags = {
        "--" + field.name.replace("_", "-")
        for field in dataclasses.fields(kind)
        if field.type in (bool, bool | None)
    }
    spelled, rest = [], list(args)
    while rest:
        flag, given, value = rest.pop(0).partition("=")
        if flag.replace("_", "-") not in flags:
            spelled.append(flag + given + value)
            continue
        if not given:
            value = rest.pop(0) if rest and not rest[0].startswith("-") else "True"
        spelled.append(f"{flag}={_YES_OR_NO.get(value.lower(), value)}")
    return spelled


def _at_home(settings: Any) -> Any:
    """The settings, a dataclass, with ~ in paths spelt out."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    paths = {
        name: value.expanduser()
        for name, value in values.items()
        if isinstance(value, pathlib.Path)
    }
    return dataclasses.replace(settings, **paths)


@contextlib.contextmanager
def messages(interrupted: str = "interrupted") -> Iterator[None]:
    """Within it, mistakes in settings or data and packages that are not there end the program with
    a message for a person, and Ctrl-C with this one."""
    try:
        yield
    except (ValueError, ConnectionError, FloatingPointError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(interrupted)
