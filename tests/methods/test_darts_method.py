"""DARTS, first and second order."""

import jax
import pytest
from published_values import DARTS_ON_TEXTS
from small_searches import DARTS, NASBENCH201, published, settings_of

import dnas
from dnas.methods import darts1, darts2

# methods.md 1.5; a chain has no settings of its own: those of DARTS's cells.
TABLE = {
    "darts": DARTS,
    "nasbench201": NASBENCH201,
    "fbnet": DARTS,
    "recurrent": DARTS_ON_TEXTS,
}


@pytest.mark.parametrize("space", TABLE)
@pytest.mark.parametrize("method", ["darts1", "darts2"])
def test_settings_are_the_published_ones(method, space):
    assert settings_of(method, space) == published(TABLE[space])


def test_the_second_order_is_the_first_with_another_gradient_of_arch():
    first, second = (
        method.settings_in(dnas.SPACES["darts"]) | {"seed": 0} for method in (darts1, darts2)
    )
    differing = {name for name in first if first[name] != second[name]}
    assert differing <= {"arch_gradient", "relaxation"}
    key, choices = jax.random.key(0), dnas.SPACES["darts"].choices["normal"]
    one, other = (
        method(dnas.SPACES["darts"], steps_per_epoch=2).relaxation.init(key, choices)
        for method in (darts1, darts2)
    )
    assert (one["ops"] == other["ops"]).all()
