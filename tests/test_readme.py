"""What the README shows works, and what it draws is there."""

import pathlib
import re
import subprocess
import sys

import pytest
from test_layers import LADDER

import dnas

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


QUICKSTART, CUSTOM_SPACE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def printed(block, folder):
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_quickstart_has_at_most_15_lines_and_prints_a_genotype(tmp_path):
    assert len([line for line in QUICKSTART.splitlines() if line]) <= 15
    texts = [line for line in printed(QUICKSTART, tmp_path) if line.startswith("Genotype(")]
    assert len(texts) == 1
    dnas.check_genotype(dnas.SPACES["darts"], dnas.Genotype.from_text(texts[0]))


def test_the_custom_space_has_under_30_lines_prints_a_genotype_and_keeps_the_laws(tmp_path):
    assert len([line for line in CUSTOM_SPACE.splitlines() if line]) < 30
    laws = "dnas.contracts.check_space(space, num_cells=2)\n"
    genotype = dnas.Genotype.from_json(printed(CUSTOM_SPACE + laws, tmp_path)[-1])
    assert genotype.space == "mine"
    assert {edge.op for edge in genotype.cells["cell"]} <= {"skip_connect", "gelu_conv"}


def test_the_drawing_has_the_levels_of_the_ladder_and_fits_in_20_lines():
    drawing = README.split("\n```\nimports point strictly down")[1].split("```")[0]
    _, ladder, outside = drawing.strip().split("\n\n")
    levels, level = {}, None
    for line in ladder.splitlines():
        level = int(line[:2]) if line[:2].strip() else level
        levels.setdefault(level, []).extend(line[4:52].split())
    drawn = {level: {name.rstrip("/") for name in names} for level, names in levels.items()}
    assert drawn == {level: set(units) for level, units in enumerate(LADDER)}
    folders = {name.rstrip("/") for names in levels.values() for name in names if name[-1] == "/"}
    assert folders == {path.name for path in (ROOT / "dnas").iterdir() if any(path.glob("*.py"))}
    assert len(ladder.splitlines() + outside.splitlines()) < 20


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][a-z-]*)", README)) - {"up"} <= targets
