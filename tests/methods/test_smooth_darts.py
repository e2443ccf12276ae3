"""SmoothDARTS, both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS, DARTS_ON_TEXTS, settings_of

import dnas
from dnas.methods import smooth_darts_adv, smooth_darts_rs

TABLE = {
    # methods.md 4.7; sota/cnn/train_search.py of xiangning-chen/SmoothDARTS
    "darts_without_none": DARTS | dict(perturb_radius=0.3),
    # nasbench201/train_search.py
    "nasbench201": DARTS | dict(perturb_radius=0.3, epochs=100),
    "fbnet": DARTS | dict(perturb_radius=0.3),
    "recurrent": DARTS_ON_TEXTS | dict(perturb_radius=0.3),
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    expected = TABLE[space]
    assert settings_of(smooth_darts_rs, space, expected) == expected
    attacked = expected | {"attack_steps": 7}
    assert settings_of(smooth_darts_adv, space, attacked) == attacked
    for method in (smooth_darts_rs, smooth_darts_adv):
        assert method.space == "darts_without_none"  # the release's space s5


def farthest(method, step):
    """The largest move of a mix that is far from the borders of the simplex."""
    mix = {"cell": jnp.full((200, 2), 0.5)}
    loss = lambda mix: mix["cell"][:, 0].sum()  # noqa: E731
    moved = method.perturbation(jax.random.key(0), jnp.asarray(step), loss, mix)["cell"]
    return np.abs(np.asarray(moved) - 0.5).max()


@pytest.mark.parametrize("method", [smooth_darts_rs, smooth_darts_adv], ids=lambda own: own.name)
def test_mixes_move_from_three_hundredths_at_first_towards_three_tenths(method):
    made = method(dnas.SPACES["darts"], steps_per_epoch=2, epochs=9)
    radii = [farthest(made, step) for step in (0, 1, 2, 17)]
    assert radii[0] == radii[1] < radii[2] < radii[3]
    # Of so many entries one moves nearly as far as it may.
    np.testing.assert_allclose(radii[0], 0.03, rtol=0.1)
    np.testing.assert_allclose(radii[3], 0.03 + 0.27 * 8 / 9, rtol=0.1)
