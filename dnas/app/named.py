"""What a name on the command line stands for: the object that its factory makes, with the keywords
that the factory has.

A line in `dnas.RULES`, `dnas.RELAXATIONS` or `dnas.SELECTIONS` is all that a name needs. Keywords
may be given after it: --rule=ranking:patience=3,from_epoch=5.
"""

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dnas.files import shown


def name_of(text: str) -> str:
    """Returns the name in what was given, without its keywords.

    Example:
      >>> name_of("ranking:patience=3")
      'ranking'
    """
    return text.partition(":")[0]


def check_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises ValueError for a name that is not known, with the nearest that is, and all of them."""
    names = list(known)
    if name in names:
        return
    close = difflib.get_close_matches(name[:100], names, n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"{what} {shown(name)} is not known{meant}; choose from: {', '.join(names)}")


def given_in(text: str) -> dict[str, Any]:
    """Returns the keywords after the name: numbers, yes-or-no values and words.

    Raises:
      ValueError: for a keyword without a value, or given twice.

    Example:
      >>> given_in("ranking:patience=3,from_epoch=5")
      {'patience': 3, 'from_epoch': 5}
    """
    keywords = {}
    for part in filter(None, text.partition(":")[2].split(",")):
        keyword, given, value = part.partition("=")
        if not given:
            raise ValueError(
                f"{shown(text)} has a keyword without a value, {shown(part)}; write"
                " NAME:KEYWORD=VALUE,..."
            )
        name = keyword.strip().replace("-", "_")
        if name in keywords:
            raise ValueError(f"{shown(text)} has the keyword {shown(name)} twice; give it once")
        keywords[name] = _value_of(value.strip())
    return keywords


def _value_of(text: str) -> Any:
    try:
        return ast.literal_eval(text.capitalize() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text  # a word


def make(
    known: Mapping[str, Callable[..., Any]],
    what: str,
    text: str,
    settings: Mapping[str, Any] | None = None,
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Returns what the factory of this name makes.

    Args:
      known: factories by name.
      what: the name of the setting that `text` is the value of: "rule".
      text: a name, perhaps with keywords, which go before all others.
      settings: keywords of the factory that have a setting of their own; None is what the factory
        has, and anything else is refused if it does not take that keyword.
      offered: keywords that the factory is given if it takes them.

    Raises:
      ValueError: for a name that is not known, a keyword that the factory does not take, and a
        value that is not of the keyword's type; and what the factory itself raises.

    Example:
      >>> make({"wait": lambda *, epochs=3: epochs}, "rule", "wait:epochs=4", {"epochs": None})
      4
    """
    parameters = keywords_of(known, what, text)
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    given |= given_in(text)
    unknown = sorted(set(given) - set(parameters))
    if unknown:
        raise ValueError(
            f"{what} {name_of(text)!r} does not take {', '.join(unknown):.200}; leave it out, or"
            f" choose from what it takes: {', '.join(parameters) or 'nothing'}"
        )
    for name, value in given_in(text).items():
        kind = parameters[name].annotation
        if kind in _WORDS and type(value) not in (kind, int if kind is float else kind):
            raise ValueError(
                f"{name} of {what} {name_of(text)!r} is {_WORDS[kind]}, got {shown(value)}"
            )
        if isinstance(value, str) and len(value) > _MOST_LETTERS:
            raise ValueError(
                f"{name} of {what} {name_of(text)!r} is a word, got {len(value):,} characters:"
                f" {shown(value)}"
            )
    offered = {name: value for name, value in (offered or {}).items() if name in parameters}
    return known[name_of(text)](**offered | given)


_MOST_LETTERS = 100  # of a word
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}


def keywords_of(
    known: Mapping[str, Callable[..., Any]], what: str, text: str
) -> dict[str, inspect.Parameter]:
    """Returns the keywords that the factory of this name takes, by name.

    Raises:
      ValueError: for a name that is not known.
    """
    name = name_of(text)
    check_known(what, name, known)
    parameters = inspect.signature(known[name]).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
