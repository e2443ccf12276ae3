"""Binary gates of ProxylessNAS."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from scipy.special import softmax

from dnas.choices import Choices
from dnas.relax import binary_gates, keep_pair_mass

DRAWS = 4000
ROW = jnp.asarray([0.0, 1.0, -0.5])
COST = jnp.asarray([1.0, -2.0, 0.5])


def wide(num_ops):
    ops = tuple(f"op{number}" for number in range(num_ops))
    return Choices(ops, tuple(map(str, range(DRAWS))))  # a row a draw


def gates_and_gradients(paths, row, cost):
    def loss(arch):
        mix = binary_gates(paths=paths).sample(jax.random.key(0), {"ops": arch}, wide(len(row)), 0)
        return (mix * cost).sum(), mix

    gradients, mix = jax.grad(loss, has_aux=True)(jnp.tile(row, (DRAWS, 1)))
    return np.asarray(mix), np.asarray(gradients)


def exact_gradient(row, cost):
    return np.asarray(jax.grad(lambda row: jax.nn.softmax(row) @ cost)(row))


@pytest.mark.parametrize("paths", ["full", "two"])
def test_gates_are_one_hot(paths):
    mix, _ = gates_and_gradients(paths, ROW, COST)
    assert ((mix == 0) | (mix == 1)).all() and (mix.sum(1) == 1).all()


def test_full_gates_are_drawn_from_softmax():
    mix, _ = gates_and_gradients("full", ROW, COST)
    assert stats.chisquare(mix.sum(0), DRAWS * softmax(np.asarray(ROW, float))).pvalue > 1e-3


def pair_probabilities(p):
    """Probability that two draws without replacement from p give i and j, in either order."""
    return {
        (i, j): p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
        for i, j in itertools.combinations(range(len(p)), 2)
    }


def test_two_paths_are_drawn_without_replacement_and_one_of_them_by_renormalised_probabilities():
    mix, gradients = gates_and_gradients("two", ROW, COST)
    p = softmax(np.asarray(ROW, float))
    observed, expected = [], []
    for (i, j), probability in pair_probabilities(p).items():
        of_pair = (gradients[:, i] != 0) & (gradients[:, j] != 0)
        observed += [mix[of_pair, i].sum(), mix[of_pair, j].sum()]
        expected += [
            DRAWS * probability * p[i] / (p[i] + p[j]),
            DRAWS * probability * p[j] / (p[i] + p[j]),
        ]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_full_gradient_is_the_exact_one_at_every_gate_where_the_loss_is_linear():
    """Each possible gate gives dE[L]/darch, and so does their expectation: all of them occur among
    the draws."""
    mix, gradients = gates_and_gradients("full", ROW, COST)
    assert set(mix.argmax(1)) == {0, 1, 2}
    np.testing.assert_allclose(gradients, np.tile(exact_gradient(ROW, COST), (DRAWS, 1)), atol=1e-6)


def test_gradient_of_the_worked_example():
    """p = (.7, .3) and dL/dg = (1, 0) give dL/darch = (.21, -.21), by either rule."""
    for paths in ("full", "two"):
        _, gradients = gates_and_gradients(
            paths, jnp.log(jnp.asarray([0.7, 0.3])), jnp.asarray([1.0, 0.0])
        )
        np.testing.assert_allclose(gradients, np.tile([0.21, -0.21], (DRAWS, 1)), atol=1e-6)


def test_full_gradient_of_any_loss_is_taken_at_the_drawn_gate():
    """dL/darch_i = p_i (dL/dg_i - sum_j p_j dL/dg_j), dL/dg at the gate: here L = cost . g^3."""
    arch, key = jnp.tile(ROW, (4, 1)), jax.random.key(3)
    four = Choices(("a", "b", "c"), tuple("wxyz"))
    gradient = jax.grad(
        lambda arch: (COST * binary_gates().sample(key, {"ops": arch}, four, 0) ** 3).sum()
    )(arch)
    of_gates = 3 * COST * binary_gates().sample(key, {"ops": arch}, four, 0) ** 2
    p = jax.nn.softmax(ROW)
    np.testing.assert_allclose(
        gradient, p * (of_gates - (p * of_gates).sum(1, keepdims=True)), atol=1e-6
    )


def expected_two_path_gradient(row, cost):
    """By enumeration of pairs: each gives q_i q_j (c_i - c_j) to i, and the opposite to j, at
    either gate."""
    p, total = softmax(np.asarray(row, float)), np.zeros(len(row))
    for (i, j), probability in pair_probabilities(p).items():
        push = probability * p[i] * p[j] / (p[i] + p[j]) ** 2 * (cost[i] - cost[j])
        total[i], total[j] = total[i] + push, total[j] - push
    return total


def test_two_path_gradient_weighs_pairs_by_how_often_they_are_drawn():
    _, gradients = gates_and_gradients("two", ROW, COST)
    error = gradients.std(0) / DRAWS**0.5
    assert (np.abs(gradients.mean(0) - expected_two_path_gradient(ROW, COST)) < 4 * error).all()
    assert (error < 0.02).all()
    assert np.abs(expected_two_path_gradient(ROW, COST) - exact_gradient(ROW, COST)).max() > 0.05


@pytest.mark.parametrize("num_ops", [2, 3, 7])
def test_two_path_gradient_at_uniform_p_is_a_multiple_of_the_exact_one(num_ops):
    cost = np.random.default_rng(0).normal(size=num_ops)
    row = jnp.zeros(num_ops)
    factor = num_ops / (2 * (num_ops - 1))
    np.testing.assert_allclose(
        expected_two_path_gradient(row, cost), factor * exact_gradient(row, cost), atol=1e-6
    )


def test_two_paths_give_a_gradient_to_two_logits_only():
    _, gradients = gates_and_gradients("two", ROW, COST)
    assert ((gradients != 0).sum(1) == 2).all()
    np.testing.assert_allclose(gradients.sum(1), 0, atol=1e-6)


def test_two_paths_out_of_one_op_that_is_left_take_it():
    mix, gradients = gates_and_gradients("two", jnp.asarray([-1e9, 0.3, -1e9]), COST)
    assert (mix == [0, 1, 0]).all() and (gradients == 0).all()


def test_other_paths_are_refused():
    with pytest.raises(ValueError, match="paths 'three' does not exist; choose from: full, two"):
        binary_gates(paths="three")


def pair_gradient(rows=5, num_ops=6, seed=0):
    random = np.random.default_rng(seed)
    gradient = np.zeros((rows, num_ops), np.float32)
    for row in gradient:
        row[random.choice(num_ops, 2, replace=False)] = random.normal() * np.asarray([1, -1])
    return jnp.asarray(gradient), jnp.asarray(random.normal(size=(rows, num_ops)), jnp.float32)


def test_pair_keeps_its_mass_and_the_others_do_not_move():
    optimizer = keep_pair_mass(optax.adam(0.3, b1=0.0))
    _, arch = pair_gradient()
    state = optimizer.init(arch)
    for step in range(5):
        gradient, _ = pair_gradient(seed=step)
        updates, state = optimizer.update(gradient, state, arch)
        before, after, arch = jax.nn.softmax(arch), jax.nn.softmax(arch + updates), arch + updates
        drawn = np.asarray(gradient != 0)
        np.testing.assert_allclose(before[~drawn], after[~drawn], rtol=1e-5)
        np.testing.assert_allclose(
            jnp.where(drawn, before, 0).sum(1), jnp.where(drawn, after, 0).sum(1), rtol=1e-5
        )
        assert (updates[~drawn] == 0).all() and (np.abs(before - after)[drawn] > 1e-4).all()


def test_the_difference_of_a_pair_is_what_the_inner_optimizer_makes_it():
    gradient, arch = pair_gradient()
    inner, outer = (
        optimizer.update(gradient, optimizer.init(arch), arch)[0]
        for optimizer in (optax.sgd(0.5), keep_pair_mass(optax.sgd(0.5)))
    )
    for one, other, drawn in zip(
        np.asarray(inner), np.asarray(outer), np.asarray(gradient != 0), strict=True
    ):
        np.testing.assert_allclose(np.diff(one[drawn]), np.diff(other[drawn]), rtol=1e-5)


def test_momentum_moves_logits_that_are_not_drawn_which_is_why_b1_is_zero():
    optimizer = keep_pair_mass(optax.adam(0.3, b1=0.5))
    arch = jnp.zeros((1, 3))
    updates, state = optimizer.update(jnp.asarray([[1.0, -1.0, 0.0]]), optimizer.init(arch), arch)
    updates, _ = optimizer.update(jnp.asarray([[0.0, 1.0, -1.0]]), state, arch + updates)
    assert abs(updates[0, 0]) > 0.01


def test_arrays_without_rows_of_ops_and_rows_without_gradient_are_left_to_the_inner_optimizer():
    arch = {"ops": jnp.ones((2, 3)), "edges": jnp.zeros(2)}
    gradient = {"ops": jnp.zeros((2, 3)), "edges": jnp.asarray([1.0, -1.0])}
    optimizer = keep_pair_mass(optax.sgd(1.0))
    updates, _ = optimizer.update(gradient, optimizer.init(arch), arch)
    np.testing.assert_array_equal(updates["edges"], -gradient["edges"])
    np.testing.assert_array_equal(updates["ops"], 0)
    with pytest.raises(ValueError, match="needs them"):
        optimizer.update(gradient, optimizer.init(arch))
