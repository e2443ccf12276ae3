"""RobustDARTS: its settings, and what it measures when."""

import pytest
from published_values import DARTS_ON_TEXTS
from small_searches import DARTS, NASBENCH201, published, settings_of, small_search

import dnas
from dnas import bilevel
from dnas.methods import METHODS

OWN = {"every": 2, "window": 5, "back": 4, "threshold": 1.3, "earliest": 11}


def test_settings_are_those_of_the_release():
    """automl/RobustDARTS, src/search/args.py: window 5, delta 4, factor 1.3, es_start_epoch 10
    (from 0 on), report_freq_hessian 2 of scripts/DARTS_search.sh."""
    assert settings_of("robust_darts", "s1") == published(DARTS, **OWN)
    assert settings_of("robust_darts", "fbnet") == published(DARTS, **OWN)
    assert settings_of("robust_darts", "nasbench201") == published(NASBENCH201, **OWN)
    assert settings_of("robust_darts", "recurrent") == published(DARTS_ON_TEXTS, **OWN)


def test_it_is_unrolled_as_its_script():
    gradient = METHODS["robust_darts"].settings_in(dnas.SPACES["s1"])["arch_gradient"]
    assert gradient.__qualname__ == bilevel.unrolled().__qualname__ != "first_order"


@pytest.mark.slow
def test_eigenvalues_are_those_after_every_second_epoch_from_the_first_on():
    result = small_search("robust_darts", epochs=4)
    measured = [row["epoch"] for row in result.history if "eigenvalue" in row]
    assert measured == [1, 3]


def test_the_decay_of_arch_is_part_of_the_eigenvalue():
    measured = []
    for decay in (0.0, 0.5):
        rule = dnas.RULES["eigenvalue"](decay=decay)
        space = dnas.SPACES["s2"]
        mix = {kind: own.allowed / 2 for kind, own in space.choices.items()}
        observed = dnas.Observed(space, 1, mix, mix, None, lambda: 2.0)
        measured.append(rule.update(rule.init(space, 50), observed)[1].metrics["eigenvalue"])
    assert measured == [2.0, 2.5]
