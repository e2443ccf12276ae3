"""The words of a command line as a dataclass of settings."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import tyro

Settings = TypeVar("Settings")


def read_words(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> Settings:
    """Returns the settings, on top of `default`; ends the program with a message for words that it
    does not know.

    Yes-or-no settings may be given as --resume, --resume=1 or --resume=True.
    """
    words = _spell_out(kind, args)
    return tyro.cli(kind, args=words, default=default, config=(tyro.conf.FlagConversionOff,))


def _spell_out(kind: type, args: Sequence[str]) -> list[str]:
    """Returns the arguments with yes-or-no settings spelt as tyro reads them."""
    words = {
        "1": "True",
        "true": "True",
        "yes": "True",
        "0": "False",
        "false": "False",
        "no": "False",
    }
    flags = {
        "--" + field.name.replace("_", "-")
        for field in dataclasses.fields(kind)
        if field.type in (bool, bool | None)
    }
    spelled, rest = [], list(args)
    while rest:
        flag, given, value = rest.pop(0).partition("=")
        if flag.replace("_", "-") in flags:
            if not given:
                value = rest.pop(0) if rest and not rest[0].startswith("-") else "True"
            spelled.append(f"{flag}={words.get(value.lower(), value)}")
        else:
            spelled.append(flag + given + value)
    return spelled
