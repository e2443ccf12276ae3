"""The main job as a newcomer runs it."""

import pathlib
import subprocess
import sys

import pytest

import dnas
from dnas.app.runs import Run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_search_on_digits_with_its_defaults_finds_a_cell_that_scores_over_97_percent(tmp_path):
    command = [sys.executable, "-m", "dnas.app", "search", f"--runs={tmp_path}", "--name=run"]
    subprocess.run(command, cwd=ROOT, check=True)
    summary = Run(tmp_path / "run").read("summary.json")
    assert summary["test_accuracy"] > 0.97
    assert len(summary["random_accuracies"]) == 3
    dnas.check_genotype(dnas.SPACES["darts"], dnas.Genotype.from_text(summary["genotype"]))
    assert (tmp_path / "run" / "report.html").exists()
