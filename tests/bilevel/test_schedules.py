"""Schedules are the formulas of their papers, epoch by epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.bilevel import cosine_by_epoch, cosine_power_annealing, exponential_by_epoch


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_cosine_by_epoch_is_the_formula_of_the_paper(steps_per_epoch):
    schedule = cosine_by_epoch(50, steps_per_epoch)
    for epoch in range(50):
        expected = 0.001 + 0.012 * (1 + np.cos(np.pi * epoch / 50))
        for step in {epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1}:
            np.testing.assert_allclose(schedule(step), expected, rtol=2e-6)
            np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(step)), expected, rtol=2e-6)


VECTORS = {
    1: [1, 0.927199, 0.813808, 0.670927, 0.512543, 0.354158, 0.211278, 0.097887, 0.025086, 0],
    2: [1, 0.902258, 0.759288, 0.594063, 0.428632, 0.280003, 0.158917, 0.070811, 0.017703, 0],
    10: [1, 0.831293, 0.617771, 0.415689, 0.255827, 0.143822, 0.071857, 0.029096, 0.006858, 0],
}


def rates(schedule, epochs, steps_per_epoch):
    """One rate an epoch, after a look at its first and last step."""
    found = jax.jit(jax.vmap(schedule))(jnp.arange(epochs * steps_per_epoch)).reshape(
        epochs, steps_per_epoch
    )
    np.testing.assert_array_equal(found[:, 0], found[:, -1])
    return found[:, 0]


@pytest.mark.parametrize("power", VECTORS)
@pytest.mark.parametrize("steps_per_epoch", [1, 3])
def test_cosine_power_annealing_has_the_known_values(power, steps_per_epoch):
    schedule = cosine_power_annealing(
        10, steps_per_epoch, learning_rate=1.0, min_learning_rate=0.0, power=power
    )
    np.testing.assert_allclose(rates(schedule, 10, steps_per_epoch), VECTORS[power], atol=1e-6)


def test_cosine_power_annealing_runs_from_the_maximum_to_the_minimum_and_stays():
    schedule = cosine_power_annealing(10, 2, learning_rate=0.2, min_learning_rate=0.1)
    np.testing.assert_allclose(
        rates(schedule, 10, 2), 0.1 + 0.1 * np.asarray(VECTORS[2]), atol=1e-6
    )
    np.testing.assert_allclose(schedule(1000), 0.1, rtol=1e-6)


def test_warm_up_is_a_ramp_before_the_curve_of_the_epochs_that_remain():
    found = rates(
        cosine_power_annealing(13, 2, learning_rate=1.0, min_learning_rate=0.0, warmup_epochs=3),
        13,
        2,
    )
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, *VECTORS[2]], atol=1e-6)


def test_a_curve_of_one_epoch_is_the_maximum():
    np.testing.assert_array_equal(
        rates(cosine_power_annealing(1, 2, learning_rate=0.5), 1, 2), [0.5]
    )


@pytest.mark.parametrize("options", [{"power": 0.5}, {"warmup_epochs": 10}, {"warmup_epochs": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"got {next(iter(options.values()))}"):
        cosine_power_annealing(10, 1, **options)


def test_exponential_by_epoch_has_the_rates_of_darts_on_imagenet():
    found = rates(exponential_by_epoch(3), 250, 3)
    np.testing.assert_allclose(found, 0.1 * 0.97 ** np.arange(250), rtol=1e-5)
