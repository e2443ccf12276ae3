"""Expected liveness is the average over all discrete cells, found by walking each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured_cells import SPECS, all_mixes, connected, probabilities

from dnas.hw_loss import expected_liveness


def draw_mix(spec, *, absent=0.1):
    rows = np.random.default_rng(0).dirichlet(np.ones(len(spec.ops)), len(spec.edges)) * (
        1 - absent
    )
    return rows.astype(np.float32)


@pytest.mark.parametrize("name", SPECS)
def test_expectation_is_the_average_over_all_discrete_cells(name):
    spec = SPECS[name]
    mix, mixes = draw_mix(spec), all_mixes(spec)
    weights, found = probabilities(mix, mixes), [connected(spec, cell) for cell in mixes]
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    expected = jax.jit(lambda mix: expected_liveness(spec, mix))(mix)
    for field in ("live", "unfed", "sums"):
        average = np.tensordot(weights, np.array([getattr(cell, field) for cell in found]), axes=1)
        np.testing.assert_allclose(getattr(expected, field), average, atol=2e-6, err_msg=field)
    for node in range(spec.num_inputs + spec.num_nodes):
        assert expected.reached[node] == pytest.approx(
            sum(weights[[node in cell.reached for cell in found]]), abs=2e-6
        )
        assert expected.used[node] == pytest.approx(
            sum(weights[[node in cell.used for cell in found]]), abs=2e-6
        )
    arrives = [bool(cell.reached & set(spec.concat)) for cell in found]
    assert expected.connected == pytest.approx(weights[arrives].sum(), abs=2e-6)


@pytest.mark.parametrize("name", SPECS)
def test_liveness_of_a_discrete_cell_is_exact(name):
    spec = SPECS[name]
    mixes = all_mixes(spec)
    expected = jax.jit(jax.vmap(lambda mix: expected_liveness(spec, mix)))(mixes)
    found = [connected(spec, cell) for cell in mixes]
    for field in ("live", "unfed", "sums"):
        assert np.array_equal(
            getattr(expected, field), np.array([getattr(cell, field) for cell in found])
        ), field


def test_gradient_is_the_finite_difference():
    spec = SPECS["one input"]
    mix = jnp.asarray(draw_mix(spec))

    def total(mix):
        found = expected_liveness(spec, mix)
        return found.live.sum() + 2 * found.unfed.sum() + 3 * found.sums + 5 * found.connected

    gradient, total = jax.jit(jax.grad(total))(mix), jax.jit(total)
    for edge, op in np.ndindex(mix.shape):
        # Linear in every entry, so that a wide difference has no error but rounding.
        high, low = (total(mix.at[edge, op].add(sign * 0.05)) for sign in (1, -1))
        assert gradient[edge, op] == pytest.approx(float(high - low) / 0.1, abs=1e-4)
