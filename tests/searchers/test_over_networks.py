"""What docs/searchers.md shows: a search over the weights of a supernet, and one over trainings."""

import pathlib
import re

import pytest

import dnas

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "searchers.md"


@pytest.mark.slow
def test_both_searches_on_the_digits_spend_their_budgets_and_beat_what_they_began_with():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    shared, trainings = names["by_shared_weights"], names["by_trainings"]
    assert [own.cost for own in shared] == [1] * 30
    assert sum(own.cost for own in trainings) == 42 and trainings[-1].cost == 9
    space, accuracy, weights = names["space"], names["accuracy"], names["weights"]
    best = max(shared, key=lambda own: own.value)
    assert best.value == accuracy(weights, dnas.one_hot_mix(space, best.genotype))
    assert best.value > shared[0].value and best.value > 0.5  # one in ten by chance
