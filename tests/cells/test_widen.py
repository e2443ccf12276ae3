"""Wider candidates out of narrower ones: the function is kept where the input has its channels
repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.cells import OPS, repeat_channels, search_norms
from dnas.cells.init import init_variables


@pytest.mark.parametrize("name", ["sep_conv_3x3", "dil_conv_5x5"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_widened_op_computes_the_same_repeated(name, stride):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    twice = jnp.concatenate([x, x], -1)
    narrow, wide = (OPS[name](channels=c, stride=stride, norms=search_norms()) for c in (4, 8))
    weights, like = (
        init_variables(narrow, jax.random.key(1), x),
        init_variables(wide, jax.random.key(2), twice),
    )
    y = wide.apply(dnas.widen_weights(weights, like), twice)
    expected = narrow.apply(weights, x)
    np.testing.assert_allclose(y, jnp.concatenate([expected, expected], -1), atol=1e-5)


def test_weights_of_the_same_width_stay_as_they_are():
    weights = {"kernel": jnp.arange(12.0).reshape(3, 4)}
    assert (dnas.widen_weights(weights, weights)["kernel"] == weights["kernel"]).all()


def test_what_an_optimiser_keeps_is_repeated_and_not_divided():
    """Momentum of copies is that of what they are copies of; counts stay."""
    kernel = jnp.arange(6.0).reshape(2, 3)
    kept = {"count": jnp.array(7), "trace": {"kernel": kernel, "bias": jnp.arange(3.0)}}
    like = {"count": jnp.array(0), "trace": {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(5)}}
    found = repeat_channels(kept, like)
    assert found["count"] == 7
    np.testing.assert_array_equal(found["trace"]["kernel"], jnp.tile(kernel, (2, 2)))
    np.testing.assert_array_equal(found["trace"]["bias"], [0, 1, 2, 0, 1])


def test_weights_are_what_is_repeated_divided_where_copies_are_read():
    kernel = jnp.arange(6.0).reshape(2, 3)
    wider = jnp.ones((3, 3))
    expected = repeat_channels(kernel, wider) / jnp.array([2.0, 1.0, 2.0])[:, None]
    np.testing.assert_allclose(dnas.widen_weights(kernel, wider), expected)


def test_what_is_smaller_or_named_otherwise_is_refused():
    weights = {"kernel": jnp.ones((3, 4))}
    with pytest.raises(ValueError, match=r"\(3, 4\) cannot be widened to \(2, 4\)"):
        dnas.widen_weights(weights, {"kernel": jnp.ones((2, 4))})
    with pytest.raises(ValueError, match="other names"):
        dnas.widen_weights(weights, {"bias": jnp.ones((3, 4))})
