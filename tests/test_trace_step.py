"""How deep the sum over candidates lies below a step, and the page that tells it."""

import pathlib
import re

from experiments.studies.trace_step import calls

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "how_a_step_runs.md"


def test_a_step_is_at_most_twelve_calls_in_six_files_from_the_sum_as_the_page_says():
    found = calls()
    assert len(found) <= 12 and len({file for file, _ in found}) <= 6
    rows = re.findall(r"^\| \d+ `(\w+)` \| \[([\w/.]+)\]", PAGE.read_text(), re.MULTILINE)
    assert [(file, function) for function, file in rows] == found
