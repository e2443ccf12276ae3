"""The house stands: every import in dnas points strictly down the ladder, and the checker sees when
one does not."""

import ast
import configparser
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT / "dnas").as_posix() for path in (ROOT / "dnas").rglob("*.py"))

# What stands on a level never imports its siblings, packages apart, and nothing above.
LADDER = (
    ("base", "files", "notation", "drawing", "statistics", "checks"),
    ("choices",),
    ("genotype", "graph", "model"),
    ("published", "parts"),
    ("space",),
    ("kernels", "relax", "selection", "bilevel", "tasks", "running", "hessian", "predictors"),
    ("cells", "hw_loss", "rules", "arch_losses", "tabular", "searchers"),
    ("spaces", "export", "search", "arch_optimizers", "baselines"),
    ("methods", "scores", "retrain"),
    ("short_training",),
    ("trials",),
    ("run",),
    ("contracts",),
    ("__init__",),
    ("app",),
)
LEVELS = {unit: level for level, units in enumerate(LADDER) for unit in units}
# Those that stand high, since search uses them, yet need little themselves.
ONLY = {
    "kernels": {"base", "graph", "space"},
    "bilevel": {"base", "checks"},
    "tasks": {"base", "checks", "model"},
    "running": {"base"},
    "selection": {"base", "checks", "choices", "genotype", "space"},
    "arch_losses": {"base", "checks", "relax"},
    "arch_optimizers": {"bilevel", "relax", "hw_loss"},
    "hessian": {"base", "checks"},
    "model": {"base"},
    "rules": {"base", "checks", "choices", "genotype", "space", "selection", "statistics"},
    "published": {"genotype"},
    "tabular": {"checks", "choices", "files", "genotype", "graph", "space", "statistics"},
    "searchers": {"base", "checks", "genotype", "predictors", "space"},
    "predictors": {"checks", "genotype", "space"},
}
PACKAGES = {path.split("/")[0] for path in FILES if "/" in path}
STDLIB_ONLY = {"checks", "files", "genotype", "notation", "drawing"}
NUMPY_ONLY = {"choices"}
# Exporters know flax's layers by themselves, with their biases.
MAY_FLAX = ("cells/", "spaces/", "export/standard.py")
# Kernels are jitted to keep them apart, cells to be traced once, and contracts check that what they
# are given works under jit.
MAY_JIT = {"running/compiling.py", "run.py", "retrain.py", "contracts.py", "cells/contract.py"}
MAY_JIT |= {"tasks/images.py", "tasks/streaming.py", "tasks/text.py"}
MAY_JIT |= {
    "kernels/kernel.py",
    "kernels/loops/shared.py",
    "kernels/loops/sampled.py",
    "cells/init.py",
    "cells/edge_ops.py",
    "cells/mixed_cell.py",
}
# A step of REINFORCE is one of many thousands, of a few numbers.
MAY_JIT |= {"searchers/reinforce.py"}
# One program scores all architectures.
MAY_JIT |= {"scores/score.py", "trials.py"}
# To measure a network, or to export it, is to compile it.
MAY_JIT |= {"hw_loss/runtimes.py", "export/stablehlo.py"}
MAY_PRINT = {"running/loop.py"}


# The command runs, prints and imports what the word given names; a library does none of it.
APP = "app/"
BY_NAME = {"app/__main__.py"}
MODULES = {
    "jinja2": "jinja2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def installed_with(section, name):
    """The modules of the packages that setup.cfg lists there."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    packages = (line.split(">")[0] for line in config[section][name].split())
    return {MODULES.get(package, package) for package in packages}


def may_import(path):
    needed = installed_with("options", "install_requires")
    if path.startswith(APP):
        needed |= installed_with("options.extras_require", "app")
    return needed | OPTIONAL.get(path, set())


# Packages of an extra, by the only files that import them: inside a function, with a message that
#   names the extra.
OPTIONAL = {
    "app/hardware.py": {"onnx", "onnxruntime"},
    "export/onnx.py": {"jax2onnx", "onnx"},
    "hw_loss/energy.py": {"pynvml"},
    "export/litert.py": {"litert_converter"},
    "export/runtimes.py": {"onnxruntime", "ai_edge_litert"},
    "predictors/curves.py": {"sklearn"},
    "predictors/regressors.py": {"sklearn"},
    "searchers/optuna.py": {"optuna"},
    "searchers/robot.py": {"sklearn"},
    "tabular/nats.py": {"nats_bench"},
    "tasks/streaming.py": {"absl", "grain"},
}


def unit_of(path):
    return path.split("/")[0].removesuffix(".py")


def imported_modules(path, tree):
    """Full names of what the file imports, wherever in it: "jax", and "dnas.search" for `from dnas
    import search`."""
    package = ["dnas", *path.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*up, *([node.module] if node.module else [])])
            if module == "dnas":
                yield from (f"dnas.{alias.name}" for alias in node.names)
            else:
                yield module


def violations(path, source):
    """What is wrong with a file of dnas, one sentence each."""
    unit, tree, found = unit_of(path), ast.parse(source), []
    if unit not in LEVELS:
        return [f"{path} has no place on the ladder"]
    for module in imported_modules(path, tree):
        top, _, rest = module.partition(".")
        if top == "experiments" or top == "tests":
            found.append(f"{path} imports {module} from outside the library")
        elif top == "dnas":
            other = rest.split(".")[0] or "__init__"
            if unit == other and unit in PACKAGES:
                continue
            if other not in LEVELS:
                found.append(f"{path} imports {module}, which is no unit of the library")
            elif not LEVELS[other] < LEVELS[unit]:
                found.append(f"{path} imports {module}, which is not below it")
            elif other not in ONLY.get(unit, {other}):
                found.append(
                    f"{path} imports {module}, but needs no more than {sorted(ONLY[unit])}"
                )
        elif top not in sys.stdlib_module_names:
            if unit in STDLIB_ONLY:
                found.append(f"{path} imports {module}, but uses the standard library only")
            if unit in NUMPY_ONLY and top != "numpy":
                found.append(f"{path} imports {module}, but uses numpy only")
            if top == "flax" and not path.startswith(MAY_FLAX):
                found.append(f"{path} imports {module}; only {MAY_FLAX} may")
            if top not in may_import(path):
                found.append(
                    f"{path} imports {module}, which is not among the requirements of setup.cfg"
                )
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name in ("import_module", "__import__") and path not in BY_NAME:
                found.append(f"{path} imports by a name that cannot be read here")
            if path.startswith(APP):
                continue
            if name == "jit" and path not in MAY_JIT:
                found.append(f"{path} calls jit on line {node.lineno}")
            if isinstance(node, ast.Name) and name == "print" and path not in MAY_PRINT:
                found.append(f"{path} prints on line {node.lineno}")
    return found


@pytest.mark.parametrize("path", FILES)
def test_imports_point_strictly_down(path):
    assert violations(path, (ROOT / "dnas" / path).read_text()) == []


def test_no_two_test_files_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names), "pytest imports them by their names"


def test_every_unit_of_the_ladder_but_none_else_exists():
    assert {unit_of(path) for path in FILES} == set(LEVELS)


BAD = {
    "up": ("genotype.py", "from dnas.space import CellSpec"),
    "up, plain import": ("space.py", "import dnas.search"),
    "up, from the package": ("space.py", "from dnas import search"),
    "up, relative": ("space.py", "from . import search"),
    "up, relative in a package": ("cells/ops.py", "from ..search import make_search"),
    "up, within a function": ("space.py", "def f():\n    from dnas.retrain import retrain"),
    "siblings at the bottom": ("notation.py", "from dnas import drawing"),
    "siblings": ("parts.py", "from dnas.published import PUBLISHED"),
    "siblings above": ("bilevel/alternating.py", "from dnas.running.loop import run_steps"),
    "packages": ("relax/softmax.py", "from dnas.cells.ops import OPS"),
    "packages, other way": ("hw_loss/table.py", "import dnas.rules"),
    "itself": ("search.py", "from dnas.search import make_search"),
    "more than it needs": ("selection/top_edges.py", "from dnas.cells import OPS"),
    "more than base": ("tasks/data.py", "from dnas.genotype import Genotype"),
    "retrain imports run": ("retrain.py", "from dnas.run import run_search"),
    "the public face": ("retrain.py", "from dnas import Genotype"),
    "the public face, whole": ("retrain.py", "import dnas"),
    "experiments": ("search.py", "from dnas.app import datasets"),
    "no place": ("zoo.py", ""),
    "array library at the bottom": ("genotype.py", "import numpy as np"),
    "jax in what is decided": ("choices.py", "import jax"),
    "jax at the bottom": ("drawing.py", "from jax import numpy"),
    "flax outside cells": ("search.py", "import flax.linen as nn"),
    "not required": ("tasks/data.py", "import torch"),
    "hidden import": ("tasks/data.py", "import importlib\nimportlib.import_module('dnas.search')"),
    "jit": ("bilevel/alternating.py", "import jax\nf = jax.jit(abs)"),
    "jit as a decorator": ("cells/ops.py", "import jax\n@jax.jit\ndef f(x): return x"),
    "jit by name": ("space.py", "from jax import jit\nf = jit(abs)"),
    "print": ("search.py", "print(1)"),
    "a package of the commands below them": ("retrain.py", "import tqdm"),
    "commands: not required": ("app/table.py", "import torch"),
    "commands: an optional package": ("app/search.py", "def f():\n    import onnxruntime"),
    "commands: flax": ("app/search.py", "import flax.linen as nn"),
    "commands: by name": ("app/build.py", "import importlib\nimportlib.import_module('dnas')"),
    "commands: from outside": ("app/search.py", "from experiments.studies import wheel"),
}


@pytest.mark.parametrize("name", BAD)
def test_checker_sees_the_bad_source(name):
    assert len(violations(*BAD[name])) >= 1


GOOD = {
    "down": ("search.py", "from dnas.bilevel import sgd\nfrom dnas import selection\nimport jax"),
    "within a package": (
        "cells/cell.py",
        "from dnas.cells.ops import OPS\nfrom .mixed_op import MixedOp\nimport flax",
    ),
    "standard library": ("genotype.py", "import json\nfrom dnas import drawing, notation"),
    "fences": ("kernels/kernel.py", "import jax\nf = jax.jit(abs)"),
    "the top": ("__init__.py", "from dnas.run import run_search\nfrom dnas import cells"),
    "commands": (
        "app/table.py",
        "import dnas\nimport jax\nfrom dnas.app import devices\nimport tqdm\njax.jit(print)(1)",
    ),
    "commands: an optional package, where it is used": (
        "app/hardware.py",
        "def f():\n    import onnxruntime",
    ),
    "words in a docstring": ("space.py", '"""import dnas; jax.jit; print(1)"""'),
}


@pytest.mark.parametrize("name", GOOD)
def test_checker_accepts_the_good_source(name):
    assert violations(*GOOD[name]) == []
