"""sharpDARTS: its settings, its rate and its candidates."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from small_searches import DARTS, published, settings_of, small_search

import dnas
from dnas.methods import METHODS, weight_optimizer


def test_settings_are_those_of_the_released_command():
    """ahundt/sharpDARTS, README.md: batch 48, 120 epochs; cnn/train_search.py: rate from 0.025 to
    1e-4, 5 epochs of warm-up."""
    assert settings_of("sharp_darts", "sharp_darts") == published(
        DARTS,
        epochs=120,
        batch_size=48,
        min_learning_rate=1e-4,
        rate_schedule="cosine_power",
        rate_warmup=5 / 120,
        detach=False,
    )
    assert METHODS["sharp_darts"].retraining == {"darts": {"batch_size": 64, "epochs": 2000}}


def test_candidates_are_the_released_primitives():
    """cnn/genotypes.py, PRIMITIVES; dil_conv_3x3 there is two separable convolutions."""
    released = "none max_pool_3x3 skip_connect sep_conv_3x3 dil_conv_3x3 flood_conv_3x3"
    released += " dil_flood_conv_3x3 choke_conv_3x3 dil_choke_conv_3x3"
    ops = dnas.SPACES["sharp_darts"].cells["normal"].ops
    assert [op.replace("dil_sep_conv", "dil_conv") for op in ops] == released.split()


def test_the_rate_rises_for_five_epochs_and_then_falls():
    space = dnas.SPACES["sharp_darts"]
    training = METHODS["sharp_darts"](space, steps_per_epoch=1).training
    plain = dataclasses.replace(training, momentum=0.0, weight_decay=0.0)
    optimizer = weight_optimizer(plain, 120, 1)
    weights = jnp.zeros(())
    state, rates = optimizer.init(weights), []
    for _ in range(120):
        update, state = optimizer.update(jnp.ones(()), state, weights)
        rates.append(-float(update))
    np.testing.assert_allclose(rates[:5], 1e-4 + 0.0249 * np.arange(1, 6) / 6, rtol=1e-5)
    assert rates[5] == max(rates) == np.float32(0.025)
    np.testing.assert_allclose(rates[-1], 1e-4, rtol=1e-4)
    assert (np.diff(rates[5:]) < 0).all()


def test_a_search_ends_with_a_genotype():
    space = dnas.darts_space(name="few", ops=("none", "dil_sep_conv_3x3"), num_nodes=1)
    assert small_search("sharp_darts", space).genotype.space == "few"
