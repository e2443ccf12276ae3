"""Inputs that nobody meant: valid ones with some edits, trees of JSON with a node exchanged, and
Python objects of the wrong kind."""

import copy
import decimal
import fractions
import functools
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

Text = TypeVar("Text", str, bytes)
Draw = Callable[[st.SearchStrategy], Any]

# For what takes a tenth of a second or more a case.
FEWER = settings(max_examples=settings().max_examples // 4)

_MOST = 300_000  # characters of an edited text

NUMBERS = (
    *("-1", "0", "-0.0", "1e999", "-1e-999", "nan", "inf", "9" * 400, "1" * 5000, "1_000", "0x10"),
    *(
        "1.5",
        "2147483648",
        "9223372036854775808",
        "\u0663",
        "\u00b2",
        "1,5",
        "1e",
        "+1",
        "007",
        "true",
        "",
    ),
)
PIECES = (
    *NUMBERS,
    *("\0", "\ufeff", "\u202e", "\u2028", "\x85", "\x1a", "é", "\U0001f600"),
    *("\u017f", "\ud7ff", "\uffff"),  # a long s, which is an s in small letters
    *(" ", "\n", "\r", "\r\n", "\t", ",", ";", ":", "|", "~", "+", "-", "--", "=", "#", "%s"),
    *(
        "'",
        '"',
        "'''",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "((((",
        "[[[[",
        "*",
        "**",
        "@",
        "`",
        "$",
    ),
    *("None", "null", "true", "range(9)", "lambda: 0", "__import__('os')", "<script>", "../", "~"),
    *("(" * 300, "[" * 3000, "{" * 300, "-" * 3000, "not " * 500, "'" * 2000, "a" * 10_000),
    *("# batch: 1,,,,\n", "!!python/object:os.system", "&a [*a]", "<<: *a", "---\n", "? x\n: y\n"),
)


@st.composite
def edited(draw: Draw, examples: Sequence[Text]) -> Text:
    """One of the examples, texts or bytes, after up to four edits."""
    text = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 4))):
        text = draw(st.sampled_from(_EDITS))(draw, text)
    return text


def _place(draw: Draw, text: str | bytes) -> int:
    return draw(st.integers(0, len(text)))


def _slice(draw: Draw, text: Text) -> tuple[Text, Text, Text]:
    first, last = sorted((_place(draw, text), _place(draw, text)))
    return text[:first], text[first:last], text[last:]


def _piece(draw: Draw, text: Text, pieces: Sequence[str]) -> Text:
    if isinstance(text, str):
        return draw(st.sampled_from(pieces) | st.text(max_size=5))
    return draw(st.sampled_from(pieces).map(str.encode) | st.binary(max_size=5))


def _cut(draw: Draw, text: Text) -> Text:
    return text[: _place(draw, text)]


def _leave_out(draw: Draw, text: Text) -> Text:
    before, _, after = _slice(draw, text)
    return before + after


def _repeat(draw: Draw, text: Text) -> Text:
    before, middle, after = _slice(draw, text)
    most = (_MOST - len(text)) // max(len(middle), 1)
    times = min(draw(st.sampled_from((2, 3, 50, 1000, 100_000))), max(most, 1))
    return before + middle * times + after


def _put_in(draw: Draw, text: Text) -> Text:
    place = _place(draw, text)
    return text[:place] + _piece(draw, text, PIECES) + text[place:]


def _exchange(draw: Draw, text: Text) -> Text:
    """Another character, or bit, in one place."""
    if not text:
        return text
    place = draw(st.integers(0, len(text) - 1))
    if isinstance(text, bytes):
        flipped = text[place] ^ 1 << draw(st.integers(0, 7))
        return text[:place] + bytes([flipped]) + text[place + 1 :]
    return text[:place] + draw(st.characters()) + text[place + 1 :]


def _other_number(draw: Draw, text: Text) -> Text:
    numbers = r"\d+(\.\d+)?" if isinstance(text, str) else rb"\d+(\.\d+)?"
    spans = [match.span() for match in re.finditer(numbers, text[:10_000])]
    if not spans:
        return text
    first, last = draw(st.sampled_from(spans))
    return text[:first] + _piece(draw, text, NUMBERS) + text[last:]


_EDITS = (_cut, _leave_out, _repeat, _put_in, _exchange, _other_number)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from((2**31, 2**63, -(2**63), 10**30, 10**400)),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(PIECES),
)
TREES = st.recursive(
    LEAVES,
    lambda nodes: st.lists(nodes, max_size=4) | st.dictionaries(st.text(max_size=8), nodes),
    max_leaves=8,
)


@st.composite
def altered(draw: Draw, tree: Any, others: st.SearchStrategy = TREES) -> Any:
    """The tree of lists and dicts after one or two of its nodes were exchanged, left out, or given
    twice."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(tree))
        if not places:
            return draw(others)
        parent, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(("exchange", "leave out", "twice")))
        if what == "exchange":
            parent[key] = draw(others)
        elif what == "leave out":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, parent[key])
        else:
            parent[key] = [parent[key], parent[key]]
    return tree


def _places(tree: Any):
    """(parent, key) of every node below the root."""
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = range(len(tree))
    else:
        return
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def edited_json(tree: Any) -> st.SearchStrategy[str]:
    """Texts that are JSON of another tree, or hardly JSON."""
    return altered(tree).map(json.dumps) | edited((json.dumps(tree),))


ARRAYS = st.sampled_from(
    (
        np.zeros(0),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.arange(6.0).reshape(2, 3),
        np.array(3),
        np.array([np.nan, np.inf]),
        np.array(["a", "b"]),
        np.array([None, 1], object),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array([2**33, 0]),
        np.array([2**63 + 1], np.uint64),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.ma.masked_array([1, 2], [True, False]),
        jnp.zeros((2, 2)),
    )
)
OBJECTS = st.one_of(
    LEAVES,
    ARRAYS,
    st.binary(max_size=4),
    st.lists(LEAVES, max_size=3),
    st.lists(LEAVES, max_size=3).map(tuple),
    st.dictionaries(st.text(max_size=4), LEAVES, max_size=2),
    st.sampled_from(
        (
            *(np.int64(2), np.uint8(3), np.float32(0.5), np.bool_(True), np.str_("darts")),
            *(2.0, 1j, decimal.Decimal("0.5"), fractions.Fraction(1, 3), math.nan, -math.inf),
            *(object(), int, len, lambda *_: None, functools.partial(int), NotImplemented, ...),
            *(range(3), slice(2), frozenset({1}), pathlib.Path("/nowhere"), ValueError("x"), math),
        )
    ),
)


@st.composite
def arguments(draw: Draw, valid: Mapping[str, Any], others: st.SearchStrategy = OBJECTS):
    """The valid keywords, of which one or two have a value of another kind."""
    names = draw(st.lists(st.sampled_from(sorted(valid)), min_size=1, max_size=2, unique=True))
    return {**valid, **{name: draw(others) for name in names}}
