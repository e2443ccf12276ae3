"""The notebooks run from top to bottom and show what they say."""

import re

import pytest

from experiments.run_notebooks import NOTEBOOKS, execute


@pytest.mark.slow
def test_the_first_notebook_runs_and_its_networks_recognise_digits():
    notebook = execute(NOTEBOOKS / "01_first_search.ipynb")
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    accuracies = [float(number) for number in re.findall(r"(\d+\.\d+)%", text)]
    assert len(accuracies) == 3 and min(accuracies) > 90
    data = [output.get("data", {}) for output in outputs]
    assert any("image/svg+xml" in item for item in data), "the genotype is drawn"
    assert sum("image/png" in item for item in data) == 2, "the logits are drawn"
