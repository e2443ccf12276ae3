"""Writes docs/methods.md, the page of all published methods, from their functions.

python -m experiments.studies.methods_page
"""

import inspect
import pathlib
from typing import Any

import dnas
from dnas.methods import FAMILIES, METHODS, Published

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "methods.md"
_DIFFERS = "Differs from the release:"

_HEAD = """# Methods

<!-- written by `python -m experiments.studies.methods_page`: change dnas/methods and run it -->

A published method is a function of a space. It returns a `dnas.Method` with the settings of its
paper, or of its released code, in that kind of space; whatever is given as a keyword goes before
them:

```python
space, task = dnas.SPACES["darts"], dnas.tasks.images(images, labels)
method = dnas.METHODS["p_darts"].for_task(space, task, epochs=10)
result = dnas.run_search(space, task, method)
```

A method of your own is such a function:

```python
@dnas.methods.published("a paper", "https://...", settings={"darts": {"epochs": 30, "decay": 0.1}})
def mine(space, training, *, decay):
    loss = dnas.arch_losses.entropy()
    return dnas.Method(optimizer=dnas.methods.alternating(training), arch_losses=[(decay, loss)])


dnas.METHODS["mine"] = mine
```

`dnas.METHODS["p_darts"].settings_in(space)` gives all of its settings. Those that are not listed
below are the ones of DARTS (`dnas.methods.Training`), with the changes of the first table. A method
is for the kinds of spaces that its table has, and is refused by name elsewhere.
"""


def page() -> str:
    """Returns the page."""
    families = ["## What searches of a kind of space have in common", ""]
    changed = {family: settings for family, settings in FAMILIES.items() if settings}
    families += _table(changed)
    sections = [_HEAD, "\n".join(_overview()), "\n".join(families)]
    sections += ["\n".join(_section(method)) for method in METHODS.values()]
    return "\n".join(sections)


def file_of(method: Published) -> str:
    """Returns the file of a method, from the root of the repository on."""
    return method.build.__module__.replace(".", "/") + ".py"


def evidence_of(method: Published) -> str:
    """Returns the file of the tests that hold a method: its settings against published values, what
    makes it this method, and a search."""
    name = method.build.__module__.rpartition(".")[2]
    # Where another test has the plain name: pytest knows test files by their last name.
    files = [f"tests/methods/test_{name}{suffix}.py" for suffix in ("", "_method")]
    return next(file for file in files if (ROOT / file).is_file())


def _overview() -> list[str]:
    """A row a method."""
    lines = ["## All methods", ""]
    lines += ["| method | paper | code | its space | beside its release | evidence |"]
    lines += ["|---" * 6 + "|"]
    for method in METHODS.values():
        differs = "differs: see there" if _docstring(method)[1] else "the same"
        lines.append(
            f"| [`{method.name}`](#{_anchor(method.paper)}) | [{method.paper}]({method.url}) |"
            f" [{file_of(method)}](../{file_of(method)}) | `{method.space}` | {differs} |"
            f" [{evidence_of(method)}](../{evidence_of(method)}) |"
        )
    held = "Every method runs besides from the command line to a report beside a random cell:"
    return [*lines, "", f"{held} `tests/app/test_methods.py`.", ""]


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading in a link."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _section(method: Published) -> list[str]:
    text, differs = _docstring(method)
    lines = [f"## {method.paper}", "", text, ""]
    lines += [
        f"* paper: <{method.url}>",
        f"* code: [{file_of(method)}](../{file_of(method)})",
        f"* call: `dnas.METHODS[{method.name!r}](space, steps_per_epoch=...)`",
        f"* command: `make search METHOD={method.name}`, in the space `{method.space}` unless told",
        f"* held by: [{evidence_of(method)}](../{evidence_of(method)})",
        f"* spaces: {', '.join(_spaces(method))}",
        "",
        *_table(method.settings),
    ]
    for family, settings in method.retraining.items():
        given = ", ".join(f"{name} {_word(value)}" for name, value in settings.items())
        lines += [f"Final networks in spaces of the kind `{family}`: {given}.", ""]
    if differs:
        lines += [f"**{_DIFFERS}** {differs}", ""]
    return lines


def _docstring(method: Published) -> tuple[str, str]:
    """What a method says that it returns, and in what it differs."""
    text, _, differs = inspect.getdoc(method).partition(_DIFFERS)  # type: ignore[union-attr]
    for heading in ("\nArgs:", "\nRaises:", "\nExample:"):
        text = text.partition(heading)[0]
    text = text.strip().removeprefix("Returns ")
    text = text[:1].upper() + text[1:]
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs), " ".join(differs.partition("\n\n")[0].split())


def _spaces(method: Published) -> list[str]:
    """The names of those spaces that the method can have."""
    names = []
    for name, space in dnas.SPACES.items():
        try:
            method(space, steps_per_epoch=1)
        except ValueError:
            continue
        names.append(f"`{name}`")
    return names


def _table(settings: Any) -> list[str]:
    """A row a setting, a column a kind of space."""
    rows = list(dict.fromkeys(name for own in settings.values() for name in own))
    if not rows:
        return []
    lines = ["| setting | " + " | ".join(f"`{family}`" for family in settings) + " |"]
    lines += ["|---" * (1 + len(settings)) + "|"]
    for name in rows:
        cells = [_word(own[name]) if name in own else "" for own in settings.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _word(value: Any) -> str:
    """A value in a table; what is made by a function has the name of that function."""
    if isinstance(value, dnas.Relaxation):
        value = value.sample
    if callable(value):
        return value.__qualname__.split(".")[0]
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


if __name__ == "__main__":
    PAGE.write_text(page())
