"""What documents and docstrings name is there."""

import ast
import importlib
import inspect
import pathlib
import re

import pytest

import dnas

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
NOTEBOOKS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("experiments/**/*.ipynb"))
MODULES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "dnas").rglob("*.py"))
# dnas.hw_loss.load_table, and not dnas/hw_loss.py or dnas-0.2.0.whl
_OURS = re.compile(r"(?<![\w/.-])dnas(?:\.[A-Za-z_]\w*)+(?![\w/])")
_QUOTED = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?=[`(])")
_FILES = (".py", ".md", ".csv", ".json", ".txt", ".toml", ".ipynb", ".jsonl", ".npz", ".html")


def resolve(name, start):
    """The object of a dotted name, from what its first part stands for."""
    first, *rest = name.split(".")
    found = start[first]
    for part in rest:
        if inspect.ismodule(found) and not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        elif part in getattr(found, "__annotations__", {}):
            found = getattr(found, part, None)  # a field without a default
        else:
            found = getattr(found, part)
    return found


def missing(names, start):
    lost = []
    for name in names:
        if name.endswith(_FILES):
            continue
        try:
            resolve(name, start)
        except (AttributeError, ImportError):
            lost.append(name)
    return lost


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS])
def test_every_name_of_dnas_in_a_document_exists(path):
    names = set(_OURS.findall((ROOT / path).read_text()))
    assert missing(names, {"dnas": dnas}) == []


def docstrings(path):
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n".join(filter(None, texts))


@pytest.mark.parametrize("path", MODULES)
def test_every_dotted_name_in_a_docstring_exists(path):
    text = docstrings(path)
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    start = vars(importlib.import_module(name)) if not name.endswith("__main__") else {}
    # A space is an argument there, and not the module of this name.
    known = {**vars(dnas), **start, "dnas": dnas, "space": dnas.SearchSpace}
    quoted = {own for own in _QUOTED.findall(text) if own.split(".")[0] in known}
    assert missing(quoted | set(_OURS.findall(text)), known) == []


def test_a_name_that_is_nowhere_is_seen():
    assert missing(["dnas.hw_loss.load_tables", "dnas.Task.loss"], {"dnas": dnas}) == [
        "dnas.hw_loss.load_tables"
    ]
    assert _OURS.findall("see dnas.hw_loss.repair, dnas/app/config.py and dnas-0.2.0-py3.whl") == [
        "dnas.hw_loss.repair"
    ]
