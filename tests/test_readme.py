"""What the README shows works, and what it draws is there."""

import pathlib
import re
import subprocess
import sys

import pytest

import dnas

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_quickstart_has_at_most_15_lines_and_prints_a_genotype(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 15
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    texts = [line for line in done.stdout.splitlines() if line.startswith("Genotype(")]
    assert len(texts) == 1
    dnas.check_genotype(dnas.SPACES["darts"], dnas.Genotype.from_text(texts[0]))


def test_the_drawing_shows_every_file_of_the_library():
    drawn = set(re.findall(r"[\w/]+\.py", README.split("imports point strictly down")[1].split("```")[0]))
    files = {path.name for path in (ROOT / "dnas").rglob("*.py")} - {"__init__.py"}
    # Of these the drawing names the folder.
    folders = ("relax", "hw_loss", "bilevel", "selection", "rules")
    inside = {path.name for folder in folders for path in (ROOT / "dnas" / folder).glob("*.py")}
    assert {pathlib.PurePath(name).name for name in drawn} >= files - inside


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][a-z-]*)", README)) - {"up"} <= targets
