"""Laws of every relaxation, and the equations of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.relax import RELAXATIONS, softmax
from dnas.space import CellSpec

SPEC = CellSpec(num_inputs=2, num_nodes=2, edges=((0, 2), (1, 2), (0, 3), (2, 3)), ops=("none", "a", "b"), concat=(2, 3))
SHAPE = (4, 3)
KEY = jax.random.key(0)


@pytest.fixture(params=RELAXATIONS)
def relaxation(request):
    return RELAXATIONS[request.param]()


def test_mix_has_one_finite_number_for_each_edge_and_op(relaxation):
    mix = relaxation.sample(KEY, relaxation.init(KEY, SPEC), SPEC, jnp.asarray(0))
    assert mix.shape == SHAPE and mix.dtype == jnp.float32
    assert jnp.isfinite(mix).all()


def test_arch_and_mix_are_functions_of_the_key(relaxation):
    one, again, other = (relaxation.init(jax.random.key(seed), SPEC) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    np.testing.assert_array_equal(*(relaxation.sample(KEY, one, SPEC, jnp.asarray(0)) for _ in range(2)))


def test_sample_under_jit_and_vmap_equals_one_after_another(relaxation):
    keys = jax.random.split(KEY, 3)
    archs = jax.vmap(lambda key: relaxation.init(key, SPEC))(keys)
    sample = jax.jit(jax.vmap(lambda key, arch, step: relaxation.sample(key, arch, SPEC, step)))
    together = sample(keys, archs, jnp.arange(3))
    for number, key in enumerate(keys):
        arch = jax.tree.map(lambda leaf, number=number: leaf[number], archs)
        alone = relaxation.sample(key, arch, SPEC, jnp.asarray(number))
        np.testing.assert_allclose(together[number], alone, rtol=1e-6)


def test_gradient_reaches_arch(relaxation):
    arch = relaxation.init(KEY, SPEC)
    weights = jax.random.normal(jax.random.key(1), SHAPE)
    gradient = jax.grad(lambda arch: (weights * relaxation.sample(KEY, arch, SPEC, jnp.asarray(0))).sum())(arch)
    assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradient))


def mix_of(arch):
    return softmax().sample(KEY, jnp.asarray(arch, jnp.float32), SPEC, jnp.asarray(0))


ARCH = np.random.default_rng(0).normal(size=SHAPE)


def test_softmax_is_its_equation():
    expected = np.exp(ARCH) / np.exp(ARCH).sum(1, keepdims=True)
    np.testing.assert_allclose(mix_of(ARCH), expected, rtol=1e-5)


def test_softmax_rows_sum_to_one_however_large_arch_is():
    for scale in (0.0, 1.0, 1e4):
        mix = mix_of(scale * ARCH)
        assert (mix >= 0).all()
        np.testing.assert_allclose(mix.sum(1), 1.0, rtol=1e-6)


def test_softmax_of_equal_logits_is_uniform():
    np.testing.assert_allclose(mix_of(np.full(SHAPE, 7.0)), 1 / 3, rtol=1e-6)


def test_softmax_does_not_see_a_constant_added_to_a_row():
    np.testing.assert_allclose(mix_of(ARCH + np.asarray([[1.0], [-2.0], [50.0], [0.0]])), mix_of(ARCH), rtol=1e-4)


def test_softmax_ends_at_one_hot():
    mix = mix_of(1e4 * np.eye(4, 3))
    np.testing.assert_array_equal(mix[:3], np.eye(3))


def test_softmax_gradient_is_the_one_of_the_paper():
    """dL/da_i = p_i (dL/dp_i - sum_j p_j dL/dp_j), whose rows sum to zero."""
    upstream = np.random.default_rng(1).normal(size=SHAPE)
    gradient = jax.grad(lambda arch: (upstream * mix_of(arch)).sum())(jnp.asarray(ARCH, jnp.float32))
    mix = np.asarray(mix_of(ARCH))
    np.testing.assert_allclose(gradient, mix * (upstream - (mix * upstream).sum(1, keepdims=True)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient.sum(1), 0.0, atol=1e-6)


def test_softmax_over_identity_and_zero_halves_the_input():
    """With x = 1 on {identity, zero} and arch = 0: y = 1/2, dy/darch = (1/4, -1/4)."""
    y, gradient = jax.value_and_grad(lambda arch: (jax.nn.softmax(arch) * jnp.asarray([1.0, 0.0])).sum())(jnp.zeros(2))
    by_mix, by_arch = jax.value_and_grad(lambda row: mix_of(jnp.tile(row, (4, 1)))[0] @ jnp.asarray([1.0, 0.0, 0.0]))(
        jnp.asarray([0.0, 0.0, -1e9])
    )
    np.testing.assert_allclose([y, *gradient], [0.5, 0.25, -0.25])
    np.testing.assert_allclose([by_mix, *by_arch], [0.5, 0.25, -0.25, 0.0])


@pytest.mark.parametrize("scale", [1e-3, 0.5])
def test_softmax_starts_from_normal_logits_of_the_given_scale(scale):
    wide = CellSpec(1, 1, ((0, 1),), tuple(f"op{number}" for number in range(5000)), (1,))
    arch = softmax(init_scale=scale).init(KEY, wide)
    np.testing.assert_allclose([arch.mean() / scale, arch.std() / scale], [0.0, 1.0], atol=0.05)


def test_softmax_starts_at_the_scale_of_the_paper():
    np.testing.assert_array_equal(softmax().init(KEY, SPEC), softmax(init_scale=1e-3).init(KEY, SPEC))
