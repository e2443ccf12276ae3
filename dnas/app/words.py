"""What a person types after a command, as a dataclass of settings; the page that explains them; and
mistakes that a person can read."""

import ast
import contextlib
import dataclasses
import difflib
import inspect
import itertools
import pathlib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


class _Type(NamedTuple):
    of: Any  # int, float, bool, str, Path or a Literal of words
    optional: bool  # whether None is a value too


_YES_OR_NO = {
    "1": True,
    "true": True,
    "yes": True,
    "0": False,
    "false": False,
    "no": False,
}
# Of a type of settings: what is written after = on the page, and what a value has to be.
_SHAPES = {int: "N", float: "X", bool: "yes|no", str: "TEXT", pathlib.Path: "PATH"}
_SHORT = 40  # characters of words to choose from that are written after =
_NEEDS = {int: "a whole number", float: "a number", bool: "yes or no"}


def read_words(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> Settings:
    """Returns the settings that words give, on top of `default`; where a word is --help, prints
    `explain` and ends the program.

    A value follows = or is the next word; a setting of yes or no may stand alone. What is given
    twice counts as it is given last.

    Raises:
      ValueError: for words that are no settings, for values of another type, and unless all
        settings without a default are given.

    Example:
      >>> @dataclasses.dataclass
      ... class Walk:
      ...     steps: int = 3
      ...     back: bool = False
      >>> read_words(Walk, ["--steps=5", "--back"])
      Walk(steps=5, back=True)
    """
    given, rest = _read(kind, args, default)
    if not rest:
        return _made(kind, given, default)
    flag = rest[0].partition("=")[0]
    if not flag.startswith("--"):
        raise ValueError(f"{rest[0]!r} is no setting; settings are given as --name=value")
    flags = [flag_of(field.name) for field in _fields(kind)]
    close = difflib.get_close_matches(flag, flags, n=1)
    meant = f"; did you mean {close[0]}?" if close else ";"
    raise ValueError(f"there is no setting {flag}{meant} --help lists all")


def read_known(
    kind: type[Settings], args: Sequence[str], default: Settings | None = None
) -> tuple[Settings, list[str]]:
    """Returns what `read_words` does of the words that give these settings, and all other words.

    Raises:
      ValueError: as `read_words`, but for words that are no settings.
    """
    given, rest = _read(kind, args, default)
    return _made(kind, given, default), rest


def _read(kind: type, args: Sequence[str], default: Any) -> tuple[dict[str, Any], list[str]]:
    """The settings that the words give, and all other words."""
    if {"-h", "--help"} & set(args):
        print(explain(kind, default))
        sys.exit()
    types, given, rest, words = _types(kind), {}, [], list(args)
    while words:
        word = words.pop(0)
        flag, has_value, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in types:
            rest.append(word)
            continue
        if not has_value:
            value = _next_value(flag, types[name], words)
        given[name] = _value_of(flag, types[name], value)
    return given, rest


def _made(kind: type[Settings], given: dict[str, Any], default: Any) -> Settings:
    if default is not None:
        return dataclasses.replace(default, **given)
    for field in _fields(kind):
        if field.name not in given and _is_needed(field):
            flag, text = flag_of(field.name), _docs(kind).get(field.name, "")
            shape = _shape_of(_types(kind)[field.name])
            raise ValueError(f"give {flag}={shape}: {text.rstrip('.')}")
    return kind(**given)


def flag_of(name: str) -> str:
    """Returns the flag of a setting: --batch-size of batch_size."""
    return "--" + name.replace("_", "-")


def _fields(kind: type) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _types(kind: type) -> dict[str, _Type]:
    hints, found = get_type_hints(kind), {}
    for field in _fields(kind):
        hint = hints[field.name]
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        (of,) = (option for option in options if option is not NoneType)
        found[field.name] = _Type(of, NoneType in options)
    return found


def _next_value(flag: str, kind: _Type, words: list[str]) -> str:
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if kind.of is bool:
        return "yes"
    raise ValueError(f"{flag} needs a value: {flag}={_shape_of(kind)}")


def _value_of(flag: str, kind: _Type, text: str) -> Any:
    if kind.optional and text == "None":
        return None
    if get_origin(kind.of) is Literal:
        if text not in get_args(kind.of):
            raise ValueError(f"{flag} is one of {', '.join(get_args(kind.of))}; got {text!r}")
        return text
    if kind.of is pathlib.Path:
        return pathlib.Path(text).expanduser()  # make passes ~ on as it is
    try:
        return _YES_OR_NO[text.lower()] if kind.of is bool else kind.of(text)
    except (KeyError, ValueError):
        raise ValueError(f"{flag} is {_NEEDS[kind.of]}; got {text!r}") from None


def _shape_of(kind: _Type) -> str:
    if get_origin(kind.of) is not Literal:
        return _SHAPES[kind.of]
    shape = "|".join(get_args(kind.of))
    return shape if len(shape) < _SHORT else "WORD"


def explain(kind: type, default: Any = None) -> str:
    """Returns the page of --help: what a class of settings says of itself, and then each setting
    with its default.

    Settings stand under the class that they are from, those of the class itself first.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    about, _, example = inspect.cleandoc(kind.__doc__ or "").partition("\n\nExample:")
    parts = [textwrap.fill(part, width) for part in about.split("\n\n")]
    if example:
        parts.append("for example:\n  " + " ".join(example.split()))
    types, texts = _types(kind), _docs(kind)
    known = {field.name: field for field in _fields(kind)}
    for owner in kind.__mro__:
        names = [name for name in inspect.get_annotations(owner) if name in known]
        if not names:
            continue
        title = inspect.cleandoc(owner.__doc__ or "").partition("\n\n")[0].rstrip(".")
        lines = ["settings:" if owner is kind else textwrap.fill(f"{title}:", width)]
        for name in names:
            field = known.pop(name)
            value = field.default if default is None else getattr(default, name)
            needed = default is None and _is_needed(field)
            end = "(needed)" if needed else _shown(value)
            shape = _shape_of(types[name])
            choice = f"One of {', '.join(get_args(types[name].of))}." if shape == "WORD" else ""
            text = " ".join(filter(None, (texts.get(name), choice, end)))
            lines += _entry(f"{flag_of(name)}={shape}", text, width)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _shown(value: Any) -> str:
    """A default on the page; nothing where there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "[yes]" if value else "[no]"
    return f"[{value}]"


def _entry(flag: str, text: str, width: int) -> list[str]:
    indent = " " * 30
    lines = textwrap.wrap(
        text,
        max(width, 60),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(flag) + 4 > len(indent):
        return [f"  {flag}", *lines]
    first, *rest = lines or [""]
    return [f"  {flag}".ljust(len(indent)) + first.lstrip(), *rest]


def _docs(kind: type) -> dict[str, str]:
    """What is written below each setting in the source of the class that it is from."""
    docs = {}
    for owner in reversed(kind.__mro__[:-1]):  # without object
        module = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        for setting, below in itertools.pairwise(ast.iter_child_nodes(module.body[0])):
            match setting, below:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(text)):
                    docs[name] = " ".join(str(text).split())
    return docs


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
