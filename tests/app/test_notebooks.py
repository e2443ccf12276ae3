"""The notebooks run from top to bottom and show what they say."""

import re

import pytest

from experiments.run_notebooks import NOTEBOOKS, execute


@pytest.mark.slow
def test_the_first_notebook_runs_and_its_networks_recognise_digits():
    notebook = execute(NOTEBOOKS / "01_first_search.ipynb")
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    text = "".join(output.get("text", "") for output in outputs)
    accuracies = [float(number) for number in re.findall(r"(\d+\.\d+)%", text)]
    assert len(accuracies) == 3 and min(accuracies) > 90
    data = [output.get("data", {}) for output in outputs]
    assert any("image/svg+xml" in item for item in data), "the genotype is drawn"
    assert sum("image/png" in item for item in data) == 2, "the logits are drawn"


@pytest.mark.slow
def test_the_notebook_on_hardware_ends_with_a_network_near_its_target():
    pytest.importorskip("jax2onnx", reason="the extra dnas[export] is not installed")
    notebook = execute(NOTEBOOKS / "02_hardware.ipynb")
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    text = "".join(output.get("text", "") for output in outputs)
    target, predicted, measured = map(
        float, re.search(r"target (\S+) ms, predicted (\S+) ms, measured (\S+) ms", text).groups()
    )
    # Other programs may run beside a test.
    assert abs(predicted / target - 1) < 0.1 and abs(measured / target - 1) < 0.4
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
