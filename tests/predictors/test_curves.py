"""Where trainings end, predicted from how they begin."""

import numpy as np
import pytest

from dnas.predictors import curve_features, final_values


def trainings(number, *, noise=0.01, epochs=12, seed=0):
    """Accuracies [N, E] that rise to an end at a rate, both of the training's own."""
    rng = np.random.default_rng(seed)
    ends, rates = rng.uniform(0.5, 0.95, (number, 1)), rng.uniform(0.2, 0.6, (number, 1))
    rise = ends * (1 - np.exp(-rates * np.arange(1, epochs + 1)))
    return rise + noise * rng.standard_normal(rise.shape)


def test_features_are_differences_and_moments():
    curves = trainings(4)[:, :5]
    found = curve_features(curves)
    assert found.shape == (4, 3 * 5 - 1)
    np.testing.assert_allclose(found[:, 5:9], curves[:, 1:] - curves[:, :-1])
    np.testing.assert_allclose(found[:, 9:12], curves[:, 2:] - 2 * curves[:, 1:-1] + curves[:, :-2])
    np.testing.assert_allclose(found[:, 12:], np.c_[curves.mean(1), curves.std(1)])


def test_what_is_linear_in_the_beginning_is_known_from_it():
    curves = trainings(40)
    curves[:, -1] = 0.2 + curves[:, 0] + 2 * (curves[:, 2] - curves[:, 1])
    found = final_values(curves[:30], curves[30:, :3])
    np.testing.assert_allclose(found.mean, curves[30:, -1], atol=1e-3)
    assert found.spread.shape == (10,) and found.spread.max() < 1e-3


def test_the_spread_is_that_of_errors_on_others():
    curves, others = trainings(100), trainings(1000, seed=1)
    spreads = []
    for length in (1, 3, 6):
        found = final_values(curves, others[:, :length])
        errors = (found.mean - others[:, -1]) / found.spread
        assert errors.std() == pytest.approx(1, abs=0.25) and abs(errors.mean()) < 0.3
        spreads.append(found.spread[0])
    # More of a training says more of its end; all of it says all.
    assert spreads == sorted(spreads, reverse=True)
    np.testing.assert_allclose(final_values(curves, others).mean, others[:, -1], atol=1e-3)


@pytest.mark.parametrize(
    ("curves", "begun", "message"),
    [
        (trainings(4), trainings(2), "at least 5 trainings"),
        (trainings(6), trainings(2)[0], r"got \(6, 12\) and \(12,\)"),
        (trainings(6)[:, :3], trainings(2)[:, :4], "1 to 3 values, got 4"),
        (trainings(6), trainings(2)[:, :0], "1 to 12 values, got 0"),
    ],
)
def test_what_cannot_be_continued_is_refused(curves, begun, message):
    with pytest.raises(ValueError, match=message):
        final_values(curves, begun)
