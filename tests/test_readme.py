"""What the README shows works, and what it draws is there."""

import pathlib
import re
import subprocess
import sys

import pytest

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


def test_the_custom_space_has_under_30_lines_and_prints_a_genotype(tmp_path):
    assert len([line for line in CUSTOM_SPACE.splitlines() if line]) < 30
    genotype = dnas.Genotype.from_json(printed(CUSTOM_SPACE, tmp_path)[-1])
    assert genotype.space == "mine"
    assert {edge.op for edge in genotype.cells["cell"]} <= {"skip_connect", "gelu_conv"}


def test_the_drawing_shows_every_file_of_the_library():
    drawn = set(
        re.findall(r"[\w/]+\.py", README.split("imports point strictly down")[1].split("```")[0])
    )
    files = {path.name for path in (ROOT / "dnas").rglob("*.py")} - {"__init__.py"}
    # Of these the drawing names the folder.
    folders = ("relax", "hw_loss", "bilevel", "selection", "rules", "tabular")
    inside = {path.name for folder in folders for path in (ROOT / "dnas" / folder).glob("*.py")}
    assert {pathlib.PurePath(name).name for name in drawn} >= files - inside


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][a-z-]*)", README)) - {"up"} <= targets
