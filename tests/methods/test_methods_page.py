"""The page of methods is what the functions say, and so is the table of the README."""

import re

import pytest

from dnas.methods import METHODS
from experiments.studies.methods_page import PAGE, ROOT, file_of, page

README = (ROOT / "README.md").read_text()


def test_the_page_is_what_its_script_writes():
    assert PAGE.read_text() == page(), "run `python -m experiments.studies.methods_page`"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_says_in_what_it_differs(method):
    text = page()
    section = text.partition(f"METHOD={method.name}`")[2].partition("\n## ")[0]
    assert f"](../{file_of(method)})" in text and (ROOT / file_of(method)).is_file()
    assert ("**Differs from the release:**" in section) == ("Differs from" in method.__doc__)


def test_the_readme_has_a_row_for_every_method_and_no_other():
    table = README.partition("\n## Methods\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \[.*\|$", table, re.MULTILINE)
    assert rows == [
        f"| [{method.paper}]({method.url}) | `make search METHOD={name}` |"
        f" [{file_of(method)}]({file_of(method)}) |"
        for name, method in METHODS.items()
    ]
