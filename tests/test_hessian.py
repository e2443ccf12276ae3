"""Products and eigenvalues of the arch Hessian against a dense one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from supernets import logits_of, weights_of

import dnas
from dnas.hessian import METHODS, dominant_eigenvalue, forward_mode, hessian_vector_product
from dnas.tasks.task import classification_loss

KEY = jax.random.key(0)


def symmetric(seed, eigenvalues):
    """A matrix with these eigenvalues."""
    size = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return jnp.asarray(q @ np.diag(eigenvalues) @ q.T, jnp.float32)


@partial(jax.jit, static_argnames=("steps", "method"))
def compiled(matrix, **options):
    return dominant_eigenvalue(lambda v: matrix @ v, jnp.zeros(len(matrix)), KEY, **options)


def largest(matrix, **options):
    return float(compiled(matrix, **options))


SPECTRA = {
    "positive": np.linspace(0.1, 5, 40),
    "the largest in magnitude is negative": np.concatenate([np.linspace(-9, 1, 39), [3.0]]),
    "all are negative": np.concatenate([np.linspace(-9, -5, 39), [-1.0]]),
    "repeated": np.array([2.0] * 20 + [-1.0] * 20),
    "identity": np.ones(40),
    "minus identity": -np.ones(40),
    "rank one": np.array([4.0] + [0.0] * 39),
    "one entry": np.array([-3.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_finds_the_largest_eigenvalue_by_value(name):
    matrix = symmetric(0, SPECTRA[name])
    assert largest(matrix, steps=40) == pytest.approx(max(SPECTRA[name]), rel=1e-4)


@pytest.mark.parametrize("name", sorted(set(SPECTRA) - {"positive"}))
def test_power_iteration_finds_the_same(name):
    matrix = symmetric(0, SPECTRA[name])
    assert largest(matrix, steps=400, method="power") == pytest.approx(max(SPECTRA[name]), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_zero_matrix_has_eigenvalue_zero(method):
    assert largest(jnp.zeros((6, 6)), method=method) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_fewer_steps_never_overestimate(method):
    matrix = symmetric(1, np.linspace(0, 1, 60))
    found = [largest(matrix, steps=steps, method=method) for steps in (2, 8, 60)]
    assert max(found) <= 1 + 1e-5
    assert found == sorted(found) and found[0] < found[-1]


def test_lanczos_needs_fewer_steps_than_power_iteration():
    matrix = symmetric(1, np.linspace(0, 1, 60))
    assert abs(largest(matrix, steps=20) - 1) < 0.1 * abs(
        largest(matrix, steps=20, method="power") - 1
    )


def quadratic(seed=0):
    """0.5 a'Qa on a tree of two arrays, and Q."""
    matrix = symmetric(seed, np.concatenate([np.linspace(-2, 1, 15), [1.5]]))
    arch = {"normal": jnp.ones((2, 4)), "reduce": jnp.ones((4, 2))}

    def loss(arch):
        vector = jax.flatten_util.ravel_pytree(arch)[0]
        return 0.5 * vector @ matrix @ vector

    return loss, arch, matrix


def test_products_of_a_quadratic_are_those_of_its_matrix():
    loss, arch, matrix = quadratic()
    vector = jax.tree.map(
        lambda leaf: jnp.arange(leaf.size, dtype=jnp.float32).reshape(leaf.shape), arch
    )
    product = jax.flatten_util.ravel_pytree(hessian_vector_product(loss, arch)(vector))[0]
    np.testing.assert_allclose(
        product, matrix @ jax.flatten_util.ravel_pytree(vector)[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("method", METHODS)
def test_eigenvalue_of_a_quadratic_is_that_of_its_matrix_plus_weight_decay(method, decay):
    loss, arch, matrix = quadratic()

    def decayed(arch):
        return loss(arch) + 0.5 * decay * sum((leaf**2).sum() for leaf in jax.tree.leaves(arch))

    found = jax.jit(
        lambda: dominant_eigenvalue(
            hessian_vector_product(decayed, arch), arch, KEY, steps=200, method=method
        )
    )()
    assert float(found) == pytest.approx(np.linalg.eigvalsh(matrix)[-1] + decay, rel=1e-4)


def test_vmap_over_keys_agrees():
    loss, arch, _ = quadratic()
    one = jax.vmap(lambda key: dominant_eigenvalue(hessian_vector_product(loss, arch), arch, key))
    found = jax.jit(one)(jax.random.split(KEY, 3))
    np.testing.assert_allclose(found, 1.5, rtol=1e-4)


@pytest.fixture(scope="module")
def supernet_loss():
    """The outer loss of a tiny supernet as a function of arch, whose kernels have gradients of
    their own."""
    ops = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
    space = dnas.darts_space(name="tiny", ops=ops, num_nodes=1)
    supernet = space.supernet(channels=2, num_cells=1, num_classes=3)
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    weights = jax.jit(weights_of(supernet))(jax.random.key(2), images)

    def loss(arch):
        mix = {kind: jax.nn.softmax(rows) for kind, rows in arch.items()}
        return classification_loss(
            logits_of(supernet)(weights, mix, images), jnp.array([0, 1, 2, 0])
        )[0]

    arch = {kind: jax.random.normal(jax.random.key(3), (2, 5)) for kind in space.cells}
    return loss, arch


def test_eigenvalue_of_a_supernet_is_that_of_the_dense_hessian(supernet_loss):
    loss, arch = supernet_loss
    flat, unravel = jax.flatten_util.ravel_pytree(arch)
    dense = np.asarray(jax.jit(jax.jacrev(jax.grad(lambda flat: loss(unravel(flat)))))(flat), float)
    np.testing.assert_allclose(dense, dense.T, atol=1e-5 * abs(dense).max())
    expected = np.linalg.eigvalsh((dense + dense.T) / 2)[-1]
    found = jax.jit(
        lambda arch: dominant_eigenvalue(hessian_vector_product(loss, arch), arch, KEY)
    )(arch)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


@pytest.mark.parametrize(
    "options", [{"method": "arnoldi"}, {"steps": 1}, {"steps": 0, "method": "power"}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="arnoldi.*lanczos, power|at least two"):
        largest(jnp.eye(3), **options)


@pytest.mark.parametrize(
    ("schedule", "partial_channels"),
    [
        ("edges", 1),
        ("waves", 2),
        *(
            pytest.param(*other, marks=pytest.mark.slow)
            for other in (("edges", 2), ("waves", 1), ("unrolled", 1), ("unrolled", 2))
        ),
    ],
)
def test_forward_mode_of_a_loss_by_the_mix_equals_reverse_mode(schedule, partial_channels, float64):
    space = dnas.darts_space(ops=("none", "skip_connect", "sep_conv_3x3"), num_nodes=2)
    options = {"schedule": schedule, "partial_channels": partial_channels}
    supernet = space.supernet(channels=4, num_cells=2, num_classes=3, **options)
    images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    weights = weights_of(supernet)(jax.random.key(1), images)
    mix = {
        kind: jax.random.uniform(jax.random.key(2), own.shape)
        for kind, own in space.choices.items()
    }

    def loss(mix):
        logits = logits_of(supernet)(weights, mix, images)
        return classification_loss(logits, jnp.asarray([0, 2]))[0]

    forward, reverse = jax.jit(jax.jacfwd(forward_mode(loss)))(mix), jax.jit(jax.grad(loss))(mix)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-12), forward, reverse)
