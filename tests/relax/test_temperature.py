"""Temperatures at the epochs where the papers' formulas were worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from dnas.relax import exponential_temperature, linear_temperature


def at_epochs(schedule, steps_per_epoch, *epochs):
    return [float(schedule(jnp.asarray(steps_per_epoch * epoch))) for epoch in epochs]


def test_gdas_falls_from_10_to_a_tenth():
    values = at_epochs(linear_temperature(250, 7), 7, 0, 1, 125, 249)
    np.testing.assert_allclose(values, [10, 9.960241, 5.030120, 0.1], rtol=1e-5)


def test_fbnet_falls_by_a_constant_factor():
    values = at_epochs(exponential_temperature(90, 7), 7, 0, 10, 45, 89)
    np.testing.assert_allclose(values, [5, 3.188141, 0.659969, 0.091121], rtol=1e-5)


def test_temperatures_change_once_an_epoch_and_end_with_the_last():
    for factory in (linear_temperature, exponential_temperature):
        schedule = factory(3, 4)
        values = jax.vmap(schedule)(jnp.arange(20)).reshape(5, 4)
        np.testing.assert_array_equal(values, values[:, :1] + jnp.zeros((1, 4)))
        assert (values[:2] > values[1:3]).all()
        np.testing.assert_array_equal(values[2], values[4])


def test_a_search_of_one_epoch_runs_at_the_start():
    for factory in (linear_temperature, exponential_temperature):
        np.testing.assert_allclose(at_epochs(factory(1, 5, start=2.0), 5, 0), [2.0])
