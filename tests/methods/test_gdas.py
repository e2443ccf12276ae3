"""GDAS."""

import jax
import numpy as np
import pytest
from published_values import DARTS, DARTS_ON_TEXTS, settings_of

import dnas
from dnas.methods import gdas

OWN = dict(temperature=10.0, temperature_end=0.1, sampled=True, pairs=False)
TABLE = {
    # AutoDL-Projects, configs/search-opts/GDAS-NASNet-CIFAR.config; N = 2 are six cells
    "darts": DARTS
    | OWN
    | dict(
        epochs=250,
        batch_size=256,
        num_cells=6,
        nesterov=True,
        weight_decay=5e-4,
        order="weights_first",
    ),
    # configs/nas-benchmark/algos/GDAS.config
    "nasbench201": DARTS
    | OWN
    | dict(epochs=250, nesterov=True, weight_decay=5e-4, order="weights_first"),
    "fbnet": DARTS | OWN | dict(order="weights_first"),
    "recurrent": DARTS_ON_TEXTS | OWN | dict(sampled=False, order="weights_first"),
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    assert settings_of(gdas, space, TABLE[space]) == TABLE[space]


def test_six_cells_halve_images_after_two_and_four():
    space = dnas.SPACES["darts"]
    layers = space.layers(channels=16, num_cells=6, image_size=32)
    assert [layer.stride for layer in layers] == [1, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(("step", "temperature"), [(0, 10.0), (14, 0.1)])
def test_the_soft_sample_whose_gradient_counts_is_cold_in_the_last_epoch(step, temperature):
    """The gradient of a hard sample is that of the soft one."""
    space = dnas.SPACES["nasbench201"]
    choices, key = space.choices["cell"], jax.random.key(0)

    def slopes(relaxation):
        sample = lambda ops: relaxation.sample(key, {"ops": ops}, choices, step)  # noqa: E731
        return jax.jacobian(sample)(np.zeros(choices.shape, np.float32))

    np.testing.assert_allclose(
        slopes(gdas(space, steps_per_epoch=3, epochs=5).relaxation),
        slopes(dnas.gumbel_hard(temperature=temperature)),
        rtol=1e-4,
    )


def test_genotypes_are_read_by_pairs_if_they_shall_be():
    space = dnas.SPACES["darts"]
    mix = {kind: np.zeros((14, 8)) for kind in space.cells}
    for rows in mix.values():
        rows[:, 4], rows[:, 5] = np.arange(14), np.arange(14) - 0.5
    edges, pairs = (
        gdas(space, steps_per_epoch=2, pairs=pairs).select(space, mix).cells["normal"]
        for pairs in (False, True)
    )
    assert len({edge[:2] for edge in edges}) == 8 and len({edge[:2] for edge in pairs}) == 4
