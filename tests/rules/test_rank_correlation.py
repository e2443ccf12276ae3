"""A rule that measures how shared weights rank architectures."""

import jax
import numpy as np
import pytest
from scipy import stats

import dnas
from dnas.rules import rank_correlation
from dnas.rules.rule import Observed, Verdict

SPACE = dnas.SPACES["nasbench201"]
CELLS = [dnas.random_genotype(key, SPACE) for key in jax.random.split(jax.random.key(0), 12)]
MIXES = [np.asarray(dnas.one_hot_mix(SPACE, cell)["cell"]) for cell in CELLS]
VALUES = np.random.default_rng(0).permutation(12).astype(float)


def observed(epoch, score):
    """What the rule sees where the supernet's accuracy of architecture n is score(n)."""

    def accuracy(mix, *, batches):
        assert batches == 3
        (number,) = (n for n, own in enumerate(MIXES) if np.array_equal(own, mix["cell"]))
        return float(score(number))

    return Observed(SPACE, epoch, {}, {}, accuracy, lambda: 0.0)


@pytest.mark.parametrize(
    "score, tau",
    [
        (lambda n: VALUES[n], 1.0),
        (lambda n: -VALUES[n] / 7, -1.0),
        (lambda n: 0.1, 0.0),
        (lambda n: VALUES[n] // 4, stats.kendalltau(VALUES // 4, VALUES).statistic),
    ],
)
def test_tau_is_that_of_the_accuracies_after_each_quarter_and_nothing_is_decided(score, tau):
    rule = rank_correlation(CELLS, VALUES.tolist(), batches=3)
    state, measured = rule.init(SPACE, 10), []
    for epoch in range(1, 11):
        state, verdict = rule.update(state, observed(epoch, score))
        assert verdict._replace(metrics={}) == Verdict(metrics={})
        if verdict.metrics:
            measured.append(epoch)
            assert verdict.metrics == {"tau": pytest.approx(tau)}
    assert measured == [3, 5, 8, 10]


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="two architectures or more and a value of each, got 1"):
        rank_correlation(CELLS[:1], [0.5])
    with pytest.raises(ValueError, match="got 12 architectures and 11 values"):
        rank_correlation(CELLS, VALUES[1:].tolist())
    with pytest.raises(ValueError, match="times and batches are at least 1, got 0"):
        rank_correlation(CELLS, VALUES.tolist(), times=0)
    rule = rank_correlation(CELLS, VALUES.tolist())
    with pytest.raises(ValueError):
        rule.init(dnas.SPACES["darts"], 10)
