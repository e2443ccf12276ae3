"""beta-DARTS."""

import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS, DARTS_ON_TEXTS, settings_of

import dnas
from dnas.methods import beta_darts

TABLE = {
    # methods.md 4.8, audit.md; sota/cnn/train_search.py of Sunshine-Ye/Beta-DARTS
    "darts_without_none": DARTS | dict(beta_decay=25.0),
    # nasbench201/train_search.py
    "nasbench201": DARTS | dict(beta_decay=50.0, epochs=100),
    "fbnet": DARTS | dict(beta_decay=25.0),
    "recurrent": DARTS_ON_TEXTS | dict(beta_decay=25.0),
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    assert settings_of(beta_darts, space, TABLE[space]) == TABLE[space]
    assert beta_darts.space == "darts_without_none"  # the release's space s5


@pytest.mark.parametrize("space", ["darts_without_none", "nasbench201"])
def test_in_every_epoch_the_weight_is_that_of_the_released_code(space):
    """50 e / 100 of the mean log-sum-exp, log 5 for five logits of zero (methods.md 10.9)."""
    method = beta_darts(dnas.SPACES[space], steps_per_epoch=3)
    [(weight, term)] = method.arch_losses
    for epoch in (0, 1, 25, 49):
        np.testing.assert_allclose(weight(3 * epoch + 2), 50 * epoch / 100, rtol=1e-5)
    np.testing.assert_allclose(term({"cell": {"ops": jnp.zeros((6, 5))}}, {}), np.log(5), rtol=1e-6)
