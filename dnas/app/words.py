"""The words of a command line as a dataclass of settings."""

import dataclasses
import inspect
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import docstring_parser
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

    Raises:
      ValueError: for a word of hundreds of characters that is the value of no setting.
    """
    _check_lengths(kind, args)
    return _read(kind, args, default)[0]


def read_known(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> tuple[Settings, list[str]]:
    """Returns what `read_words` does of the words that give these settings, and all other words."""
    return _read(kind, args, default, return_unknown_args=True)


def _read(
    kind: type[Settings], args: Sequence[str], default: Settings | None, **options: Any
) -> tuple[Settings, list[str]]:
    read = tyro.cli(
        _in_groups(kind, default),
        description=inspect.getdoc(kind),
        args=_spell_out(kind, args),
        config=(tyro.conf.FlagConversionOff, tyro.conf.OmitArgPrefixes),
        **options,
    )
    groups, rest = read if options else (read, [])
    given = {name: value for group in vars(groups).values() for name, value in vars(group).items()}
    return _at_home(kind(**given)), rest


def _in_groups(kind: type, default: Any) -> type:
    """A dataclass of dataclasses, one for each class that settings of `kind` are inherited from:
    the help has a box for each. The class's own come first."""
    groups, left = [], {field.name for field in dataclasses.fields(kind)}
    for owner in kind.__mro__[:-1]:
        texts = docstring_parser.parse_from_object(owner).params
        help_of = {text.arg_name: " ".join((text.description or "").split()) for text in texts}
        fields = [
            (
                field.name,
                Annotated[field.type, tyro.conf.arg(help=help_of.get(field.name))],
                dataclasses.field(default=getattr(default, field.name, field.default)),
            )
            for field in dataclasses.fields(owner)
            if field.name in left & set(owner.__annotations__)
        ]
        left -= set(owner.__annotations__)
        title = owner.__name__.removesuffix("Config").removesuffix("Command").lower()
        about = {"__doc__": "" if owner is kind else owner.__doc__}  # it is above all boxes
        group = dataclasses.make_dataclass(owner.__name__, fields, kw_only=True, namespace=about)
        groups.append((title, group))
    return dataclasses.make_dataclass(kind.__name__, groups)


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


_LONGEST = 100  # characters of a word that is no value


def _check_lengths(kind: type, args: Sequence[str]) -> None:
    """Raises ValueError for a long word that gives no setting: those that are nearest to it would
    be searched for long."""
    names = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(kind)}
    before = ""
    for word in args:
        name, given, _ = word.partition("=")
        name = name.replace("_", "-")
        if len(word) > _LONGEST and not {name, before} & names:
            raise ValueError(f"a word of {len(word):,} characters gives no setting: {word:.40}...")
        before = "" if given else name


def _at_home(settings: Any) -> Any:
    """The settings, a dataclass, with ~ in paths spelt out."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    try:
        paths = {
            name: value.expanduser()
            for name, value in values.items()
            if isinstance(value, pathlib.Path)
        }
    except RuntimeError as error:
        raise ValueError(f"{error}: write out what ~ stands for") from None
    return dataclasses.replace(settings, **paths)
