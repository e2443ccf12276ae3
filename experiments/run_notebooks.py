"""Runs the notebooks from top to bottom and keeps the outputs in them. `make notebook`."""

import pathlib

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = pathlib.Path(__file__).parent / "notebooks"


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """Returns the notebook with the outputs of a fresh run; raises nbclient's CellExecutionError if
    a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return notebook


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path)
        nbformat.write(execute(path), path)
