"""What runs on the edges of a final network: chosen ops, and drop path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import filled, normal

from dnas.cells import final_norms, search_norms
from dnas.cells.chosen import ChosenOps, drop_samples
from dnas.spaces import DARTS_OPS

CHANNELS, BATCH, SIZE = 4, 2, 6


def images(seed=1, *lead):
    return normal(seed, *lead, BATCH, SIZE, SIZE, CHANNELS)


def test_drop_samples_zeroes_whole_samples_and_scales_the_rest():
    x = 1.0 + jax.random.uniform(jax.random.key(1), (64, 3, 2, 4))
    y = np.asarray(drop_samples(jax.random.key(0), x, 0.25))
    dropped = (y == 0).all((1, 2, 3))
    assert 0 < dropped.sum() < 64
    np.testing.assert_allclose(y[~dropped], np.asarray(x)[~dropped] / 0.75, rtol=1e-6)


def test_drop_samples_preserves_the_mean():
    x = jnp.ones((20_000, 1, 1, 1))
    y = drop_samples(jax.random.key(0), x, 0.3)
    assert float((y == 0).mean()) == pytest.approx(0.3, abs=0.015)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.02)


def test_drop_samples_at_rate_zero_is_the_identity():
    np.testing.assert_array_equal(drop_samples(jax.random.key(0), images(), 0.0), images())


def test_drop_samples_works_under_jit_and_vmap_with_a_traced_rate():
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.jit(jax.vmap(drop_samples, (0, None, None)))(keys, images(), 0.5)
    np.testing.assert_allclose(
        mapped, jnp.stack([drop_samples(key, images(), 0.5) for key in keys]), rtol=1e-6
    )


def test_chosen_ops_never_drop_an_identity():
    chosen = ChosenOps(("skip_connect",), CHANNELS, 1, final_norms(True))
    for rate in (None, 0.99, jnp.float32(0.99)):
        y = chosen.apply({}, images(), rate, rngs={"drop_path": jax.random.key(0)})
        np.testing.assert_array_equal(y, images())


@pytest.mark.parametrize(
    ("name", "stride"),
    [(name, 1) for name in DARTS_OPS if name not in ("none", "skip_connect")]
    + [("skip_connect", 2)],
)
def test_chosen_ops_drop_all_other_ops(name, stride):
    chosen = ChosenOps((name,), CHANNELS, stride, search_norms())
    variables = filled(chosen, images())
    whole = chosen.apply(variables, images())
    seen = set()
    for seed in range(12):
        y = chosen.apply(variables, images(), 0.5, rngs={"drop_path": jax.random.key(seed)})
        for sample, full in zip(y, whole, strict=True):
            kept = bool(abs(sample).max() > 0)
            np.testing.assert_allclose(sample, 2 * full * kept, atol=1e-5)
            seen.add(kept)
    assert seen == {True, False}


def test_chosen_ops_draw_no_key_without_a_rate():
    chosen = ChosenOps(("max_pool_3x3",), CHANNELS, 1, search_norms())
    chosen.apply({}, images())  # flax raises where a key is drawn that was not given


def test_chosen_ops_sum_over_several_ops():
    chosen = ChosenOps(("max_pool_3x3", "skip_connect"), CHANNELS, 1, final_norms(True))
    alone = [
        ChosenOps((name,), CHANNELS, 1, final_norms(True)).apply({}, images())
        for name in chosen.ops
    ]
    np.testing.assert_allclose(chosen.apply({}, images()), sum(alone), atol=1e-6)
