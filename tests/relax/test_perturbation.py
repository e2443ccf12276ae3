"""SmoothDARTS's perturbations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.relax import adversarial_perturbation, perturbation_radius, random_perturbation

ROWS = np.random.default_rng(0).dirichlet([1.0] * 5, 6)
MIX = {
    "normal": jnp.asarray(ROWS, jnp.float32),
    "reduce": jnp.asarray(ROWS[:3, ::-1] * [[1.0], [0.3], [0.0]], jnp.float32)
    .at[0]
    .set([0.5, 0.0, 0.5, 0.0, 0.0]),
}
TARGET = {kind: jax.random.uniform(jax.random.key(7), rows.shape) for kind, rows in MIX.items()}
BOTH = pytest.mark.parametrize("factory", [random_perturbation, adversarial_perturbation])


def loss(mix):
    return sum(jnp.square(mix[kind] - TARGET[kind]).sum() for kind in MIX)


@partial(jax.jit, static_argnums=0)
def compiled(perturbation, key, step, mix):
    return perturbation(key, step, loss, mix)


def perturbed(perturbation, seed=0, step=0, mix=MIX):
    return compiled(perturbation, jax.random.key(seed), jnp.asarray(step), mix)


@BOTH
@pytest.mark.parametrize("radius", [0, 0.0, lambda step: 0.0 * step])
def test_without_a_radius_the_mix_is_left_as_it_is_to_the_last_bit(factory, radius):
    jax.tree.map(np.testing.assert_array_equal, perturbed(factory(radius)), MIX)


@BOTH
@pytest.mark.parametrize("radius", [0.03, 0.3, 5.0])
def test_rows_keep_their_sum_and_their_zeros(factory, radius):
    perturbation = factory(radius)
    for seed in range(3):
        new = perturbed(perturbation, seed)
        for kind in MIX:
            assert (new[kind] >= 0).all() and jnp.isfinite(new[kind]).all()
            np.testing.assert_allclose(new[kind].sum(1), MIX[kind].sum(1), rtol=1e-5)
            assert (new[kind][MIX[kind] == 0] == 0).all()
        assert (new["normal"] != MIX["normal"]).any(axis=1).all()


def test_random_moves_are_uniform_within_the_radius_before_rows_are_divided():
    """With no entry near 0 a row is (p + delta) / (1 + sum of delta): ratios of entries give delta
    up to that."""
    mix = {"cell": jnp.full((4000, 2), 0.5)}
    new = np.asarray(random_perturbation(0.1)(jax.random.key(0), 0, None, mix)["cell"], float)
    assert new.max() <= 0.6 and new.min() >= 0.4
    # Of two ops with moves u and v the first gets (.5 + u) / (1 + u + v), between .6 / 1 and .4 / 1
    # at u = -v.
    np.testing.assert_allclose(new[:, 0].mean(), 0.5, atol=3e-3)
    # (u - v) / (1 + u + v), whose variance is that of u - v to second order: 2 * .1^2 / 3.
    difference = 2 * new[:, 0] - 1
    np.testing.assert_allclose(difference.var(), 2 * 0.1**2 / 3, rtol=0.1)


def test_a_row_that_loses_all_its_weight_gives_it_to_the_op_that_lost_least():
    mix = {"cell": jnp.full((4000, 8), 1 / 8)}
    new = random_perturbation(0.3)(jax.random.key(0), 0, None, mix)["cell"]
    assert jnp.isfinite(new).all()
    np.testing.assert_allclose(new.sum(1), 1, rtol=1e-5)


def test_the_adversary_never_lowers_the_loss_and_beats_a_random_move():
    both = random_perturbation(0.1), adversarial_perturbation(0.1)
    for seed in range(5):
        random, adversary = (perturbed(perturbation, seed) for perturbation in both)
        assert loss(adversary) > loss(MIX)
        assert loss(adversary) > loss(random)


def test_the_adversary_gives_up_where_no_move_raises_the_loss():
    def at_its_maximum(mix):
        return -sum(jnp.square(mix[kind] - MIX[kind]).sum() for kind in MIX)

    new = adversarial_perturbation(0.1)(jax.random.key(0), 0, at_its_maximum, MIX)
    jax.tree.map(np.testing.assert_array_equal, new, MIX)


def test_the_adversary_of_a_linear_loss_goes_to_the_boundary():
    """Two ops and loss p_0: the best move within the radius is to p_0 + radius."""
    mix = {"cell": jnp.asarray([[0.5, 0.5], [0.8, 0.2]])}
    new = adversarial_perturbation(0.1)(
        jax.random.key(0), 0, lambda mix: (mix["cell"] @ jnp.asarray([1.0, -1.0])).sum(), mix
    )
    np.testing.assert_allclose(new["cell"], [[0.6, 0.4], [0.9, 0.1]], atol=1e-5)


@BOTH
def test_the_result_has_the_gradient_of_the_mix(factory):
    def outcome(mix):
        return sum(
            (TARGET[kind] * rows).sum() for kind, rows in perturbed(factory(0.1), mix=mix).items()
        )

    jax.tree.map(np.testing.assert_array_equal, jax.grad(outcome)(MIX), TARGET)


@BOTH
def test_the_radius_may_be_a_schedule(factory):
    scheduled = factory(lambda step: 0.05 * (step + 1))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        perturbed(scheduled, step=1),
        perturbed(factory(0.1)),
    )


@BOTH
def test_mixes_for_each_image_are_perturbed_row_by_row(factory):
    mix = {"cell": jnp.stack([MIX["normal"], MIX["normal"][::-1]], axis=-1)}
    new = factory(0.1)(
        jax.random.key(0), 0, lambda mix: (mix["cell"][:, :2] - mix["cell"][:, 2:4]).sum(), mix
    )["cell"]
    np.testing.assert_allclose(new.sum(1), 1, rtol=1e-5)
    assert (new != mix["cell"]).any()


def test_vmap_over_seeds_equals_one_by_one():
    keys = jax.random.split(jax.random.key(0), 3)
    for factory in (random_perturbation, adversarial_perturbation):
        one = partial(compiled, factory(0.1), step=0, mix=MIX)
        together, alone = jax.vmap(one)(keys), [one(key) for key in keys]
        np.testing.assert_allclose(
            together["normal"], jnp.stack([mix["normal"] for mix in alone]), atol=1e-5
        )


def test_radius_grows_from_a_tenth_of_its_last_value():
    schedule = perturbation_radius(50, 10)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 9, 250, 499)], [0.03, 0.03, 0.165, 0.2946], rtol=1e-5
    )


def test_bad_radii_and_steps_are_refused():
    for factory in (random_perturbation, adversarial_perturbation):
        with pytest.raises(ValueError, match=r"from 0 on or a schedule of the step, got -0\.1"):
            factory(-0.1)
    with pytest.raises(ValueError, match="at least one step, got steps = 0"):
        adversarial_perturbation(0.1, steps=0)
