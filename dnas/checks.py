"""What may be given: arguments are held to their annotations, which a type checker reads as well.

Public functions are `checked`, and records call `check_fields` when they are made, so that a wrong
argument is refused where it comes in, and not by whatever first trips over it. Ranges, and what
arguments mean together, stay with the functions.
"""

import collections.abc
import dataclasses
import functools
import inspect
import math
import numbers
import operator
import os
import pathlib
import reprlib
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

MOST_SEED = 2**32 - 1  # what is above is cut off where JAX computes in 32 bits


def checked(function: Function) -> Function:
    """Returns the function with a border: arguments that are not what its annotations say are
    refused before it begins.

    A whole number may be of any type that is one, such as np.int64, and arrives as int; True is
    none, and nan is no number. Lists arrive as tuples where tuples are asked for. What an
    annotation says of arrays, of trees of them and of what functions take is left to the function,
    and so is one that is written as a text.

    Raises:
      ValueError: when called; names the function, the argument, what was given and what is allowed.

    Example:
      >>> @checked
      ... def train(*, epochs: int, rate: float | None = None) -> int:
      ...     return epochs
      >>> train(epochs=1.5)
      Traceback (most recent call last):
      ValueError: train: epochs is a whole number, not 1.5
    """
    signature = inspect.signature(function)
    packed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    annotations = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not parameter.empty and parameter.kind not in packed
    }

    @functools.wraps(function)
    def bordered(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says better what is missing or too much
        for name, annotation in annotations.items():
            if name in bound.arguments:
                where = f"{function.__qualname__.rpartition('.')[2]}: {name}"
                bound.arguments[name] = _taken(where, annotation, bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return typing.cast(Function, bordered)


def check_fields(record: Any) -> None:
    """Holds a dataclass or a NamedTuple to the annotations of its fields. A dataclass gets what
    `checked` makes of them.

    Raises:
      ValueError: names the field, what was given and what is allowed.
    """
    kind = type(record)
    is_tuple = isinstance(record, tuple)
    if is_tuple:
        names = kind._fields
    else:
        names = [field.name for field in dataclasses.fields(record) if field.init]
    for name in names:
        value = getattr(record, name)
        taken = _taken(f"{kind.__name__}: {name}", kind.__annotations__[name], value)
        if taken is not value and not is_tuple:
            object.__setattr__(record, name, taken)


def at_least(least: int, *, most: int | None = None, **given: int) -> None:
    """Raises ValueError, which names it, for a whole number below `least` or above `most`.

    Example:
      >>> at_least(1, channels=16, num_cells=0)
      Traceback (most recent call last):
      ValueError: num_cells is a whole number from 1 on, got 0
    """
    for name, number in given.items():
        if number < least or (most is not None and number > most):
            upwards = "on" if most is None else f"to {most:,}"
            raise ValueError(f"{name} is a whole number from {least} {upwards}, got {number}")


def one_of(choices: Iterable[str], **given: object) -> None:
    """Raises ValueError, which names it, for a word that is not among the choices.

    Example:
      >>> one_of(("cifar", "imagenet"), stem="svhn")
      Traceback (most recent call last):
      ValueError: stem 'svhn' does not exist; choose from: cifar, imagenet
    """
    names = list(choices)
    for name, word in given.items():
        if word not in names:
            cut = reprlib.repr(word)
            raise ValueError(f"{name} {cut} does not exist; choose from: {', '.join(names)}")


def whole(value: Any) -> int | None:
    """Returns the whole number that a value is, of whatever type; None if it is none.

    Example:
      >>> import numpy as np
      >>> whole(np.int64(3)), whole(True), whole(3.0)
      (3, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


class _Refused(Exception):
    pass


def _taken(where: str, annotation: Any, value: Any) -> Any:
    try:
        return _as(annotation, value)
    except _Refused:
        raise ValueError(f"{where} is {_words(annotation)}, not {reprlib.repr(value)}") from None


def _as(annotation: Any, value: Any) -> Any:
    """The value as the annotation has it."""
    if annotation is Any:
        return value
    if isinstance(annotation, TypeVar):
        return value if annotation.__bound__ is None else _as(annotation.__bound__, value)
    own = _SINGLE.get(annotation) if isinstance(annotation, type) else None
    if own is not None:
        return own[1](value)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _as_any(inner, value)
    if origin is os.PathLike:
        return _as_path(value)
    if origin is Literal:
        return _demand(isinstance(value, (str, int)) and value in inner, value)
    if origin is collections.abc.Callable:
        return _demand(callable(value), value)
    if origin is tuple:
        return _as_tuple(inner, value)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        _demand(isinstance(value, collections.abc.Mapping), value)
        for key, own_value in value.items():
            _as(inner[0], key)
            _as(inner[1], own_value)
        return value
    if isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        _demand(_is_series(value), value)
        for own_value in value:
            _as(inner[0], own_value)
        return value
    if isinstance(annotation, type) and _is_array(annotation):
        return value if hasattr(value, "shape") else _as_float(value)
    if isinstance(annotation, type) and not getattr(annotation, "_is_protocol", False):
        return _demand(isinstance(value, annotation), value)
    return value


def _as_any(annotations: tuple[Any, ...], value: Any) -> Any:
    for annotation in annotations:
        try:
            return _as(annotation, value)
        except _Refused:
            continue
    raise _Refused


def _as_tuple(annotations: tuple[Any, ...], value: Any) -> tuple:
    _demand(isinstance(value, (tuple, list, range)), value)
    if annotations[1:] == (...,):
        annotations = annotations[:1] * len(value)
    _demand(len(annotations) == len(value), value)
    taken = [_as(annotation, own) for annotation, own in zip(annotations, value, strict=True)]
    same = all(one is other for one, other in zip(taken, value, strict=True))
    return value if same and isinstance(value, tuple) else tuple(taken)


def _is_series(value: Any) -> bool:
    """Whether a value is a collection of others, as a text or an array of one number is not."""
    if isinstance(value, (str, bytes, collections.abc.Mapping)):
        return False
    return isinstance(value, collections.abc.Collection) and getattr(value, "shape", None) != ()


def _is_array(annotation: type) -> bool:
    return annotation.__module__.split(".")[0] in ("jax", "jaxlib", "numpy")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _demand(holds: bool, value: Any) -> Any:
    if not holds:
        raise _Refused
    return value


def _as_int(value: Any) -> int:
    found = whole(value)
    _demand(found is not None and abs(found) < 2**63, value)
    return typing.cast(int, found)


def _as_float(value: Any) -> Any:
    if getattr(value, "shape", None) == () and not isinstance(value, numbers.Number):
        # An array of one number, which JAX may not know yet, and no text, date or object.
        return _demand(value.dtype.kind not in "SUOMmc", value)
    found: Any = _demand(_is_number(value), value)
    try:
        return _demand(not math.isnan(found), found)
    except OverflowError:  # of a whole number that no float can be
        raise _Refused from None


def _as_bool(value: Any) -> bool:
    is_numpys = getattr(value, "shape", None) == () and str(getattr(value, "dtype", "")) == "bool"
    return bool(_demand(isinstance(value, bool) or is_numpys, value))


def _as_str(value: Any) -> str:
    return _demand(isinstance(value, str), value)


def _as_none(value: Any) -> None:
    return _demand(value is None, value)


def _as_path(value: Any) -> Any:
    return _demand(isinstance(value, os.PathLike), value)


# {type: (what it is in words, value -> the value as it, or _Refused)}
_SINGLE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    int: ("a whole number", _as_int),
    float: ("a number", _as_float),
    bool: ("True or False", _as_bool),
    str: ("a text", _as_str),
    types.NoneType: ("None", _as_none),
    pathlib.Path: ("a path", _as_path),
    os.PathLike: ("a path", _as_path),
}


def _words(annotation: Any) -> str:
    """What the annotation allows."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _SINGLE or origin in _SINGLE:
        return _SINGLE[annotation if origin is None else origin][0]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is collections.abc.Callable:
        return "a function"
    if origin is tuple and inner[1:] != (...,):
        return f"({', '.join(map(_words, inner))})"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return f"a mapping of {_words(inner[0])} to {_words(inner[1])}"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        return f"a list in which each is {_words(inner[0])}"
    if annotation is Any:
        return "anything"
    if isinstance(annotation, TypeVar) and annotation.__bound__ is not None:
        return _words(annotation.__bound__)
    if isinstance(annotation, type) and _is_array(annotation):
        return "an array"
    if annotation is collections.abc.Callable:
        return "a function"
    name = getattr(annotation, "__name__", str(annotation))
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
