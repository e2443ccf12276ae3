"""Batch norm against PyTorch's definition, written in numpy, and its gradient against the automatic
one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64

from dnas.cells.norms import BatchNorm, Unnormed, final_norms, no_norm, search_norms
from dnas.kernels.norms import mixed_norm_sum, normalize

EPS = 1e-5


class TorchBatchNorm:
    """torch.nn.BatchNorm2d in numpy, channels last: momentum 0.1, eps 1e-5."""

    def __init__(self, channels):
        self.weight, self.bias = np.ones(channels), np.zeros(channels)
        self.running_mean, self.running_var = np.zeros(channels), np.ones(channels)

    def __call__(self, x, training):
        mean, var = self.running_mean, self.running_var
        if training:
            rows = x.reshape(-1, x.shape[-1])
            mean, var = rows.mean(0), rows.var(0, ddof=0)
            self.running_mean = 0.9 * self.running_mean + 0.1 * mean
            self.running_var = 0.9 * self.running_var + 0.1 * rows.var(0, ddof=1)
        return (x - mean) / np.sqrt(var + 1e-5) * self.weight + self.bias


def images(seed, *shape):
    return 2.0 + 3.0 * jax.random.normal(jax.random.key(seed), shape or (2, 3, 2, 4))


def naive(x):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / jnp.sqrt(x.var(axes) + EPS)


def test_batch_norm_equals_pytorch_over_three_batches_and_an_evaluation():
    torch, norm = TorchBatchNorm(4), BatchNorm()
    torch.weight, torch.bias = np.array([0.5, 1.0, 2.0, -1.0]), np.array([0.0, 1.0, -1.0, 3.0])
    variables = norm.init(jax.random.key(0), images(0))
    variables["params"] = {"scale": jnp.asarray(torch.weight), "bias": jnp.asarray(torch.bias)}
    for seed in range(3):
        y, averages = norm.apply(variables, images(seed), mutable=["batch_stats"])
        np.testing.assert_allclose(y, torch(np.asarray(images(seed), np.float64), True), atol=1e-5)
        variables = {**variables, **averages}
        np.testing.assert_allclose(variables["batch_stats"]["mean"], torch.running_mean, rtol=1e-5)
        np.testing.assert_allclose(variables["batch_stats"]["var"], torch.running_var, rtol=1e-5)
    y = BatchNorm(train=False).apply(variables, images(9))
    np.testing.assert_allclose(y, torch(np.asarray(images(9), np.float64), False), atol=1e-5)


def test_running_averages_start_at_mean_zero_and_variance_one():
    averages = BatchNorm().init(jax.random.key(0), images(0))["batch_stats"]
    np.testing.assert_array_equal(averages["mean"], np.zeros(4))
    np.testing.assert_array_equal(averages["var"], np.ones(4))


def test_one_value_a_channel_keeps_the_running_variance_finite():
    norm, x = BatchNorm(), jnp.ones((1, 1, 1, 4))
    _, averages = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    assert jnp.isfinite(averages["batch_stats"]["var"]).all()


def test_evaluation_does_not_change_the_averages():
    norm = BatchNorm(train=False)
    variables = BatchNorm().init(jax.random.key(0), images(0))
    _, averages = norm.apply(variables, images(1), mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, averages["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize("train", [True, False])
def test_stateless_norm_makes_no_variables_and_uses_the_batch(train):
    norm = BatchNorm(affine=False, running=False, train=train)
    y, variables = norm.init_with_output(jax.random.key(0), images(0))
    assert not variables
    np.testing.assert_allclose(y, naive(images(0)), atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_search_norms_keep_no_averages_and_only_the_stem_is_affine(train):
    collections = {
        place: set(getattr(search_norms(train), place)().init(jax.random.key(0), images(0)))
        for place in ("stem", "conv", "pool")
    }
    assert collections == {"stem": {"params"}, "conv": set(), "pool": set()}


@pytest.mark.parametrize("eps", [(1e-5, 1e-5, 1e-3), (None, 1e-5, None), (None, None, None)])
def test_a_weighted_sum_of_norms_equals_the_norms_one_by_one_to_second_order(eps):
    arrays, weights, direction = (
        [images(n) for n in range(3)],
        jnp.array([0.5, -1.0, 2.0]),
        images(7),
    )
    arrays[1] = 5.0 + 0.1 * arrays[1]  # a mean that is large beside the spread

    def one_by_one(weights, arrays):
        normed = [
            x if own is None else normalize(x, None, None, own)[0]
            for x, own in zip(arrays, eps, strict=True)
        ]
        return sum(weight * x for weight, x in zip(weights, normed, strict=True))

    def together(weights, arrays):
        return mixed_norm_sum(weights, arrays, eps)

    def first_and_second(function):
        def value(weights, arrays):
            return jnp.vdot(jnp.tanh(function(weights, arrays)), direction)

        def squared(weights, arrays):
            return sum(
                jnp.vdot(part, part)
                for part in jax.tree.leaves(jax.grad(value, (0, 1))(weights, arrays))
            )

        found = jax.value_and_grad(value, (0, 1))(weights, arrays)
        return found, jax.grad(squared, (0, 1))(weights, arrays)

    with enable_x64(True):
        weights, direction, *arrays = (
            jnp.asarray(x, jnp.float64) for x in (weights, direction, *arrays)
        )
        found, expected = (
            jax.jit(lambda: first_and_second(together))(),
            jax.jit(lambda: first_and_second(one_by_one))(),
        )
    chex.assert_trees_all_close(found, expected, rtol=1e-8, atol=1e-8)


def test_only_norms_without_parameters_and_state_are_left_to_the_mixed_op():
    for norms in (search_norms(), final_norms(True)):
        for place in ("conv", "pool"):
            assert type(norms.last(place)) is type(getattr(norms, place)())
    mixed = search_norms()._replace(mixed=True)
    left = mixed.last()(images(0))
    assert isinstance(left, Unnormed)
    np.testing.assert_allclose(left.normed(), naive(images(0)), atol=1e-5)
    assert isinstance(final_norms(True)._replace(mixed=True).last(), BatchNorm)
    assert mixed._replace(pool=no_norm).last("pool")(3) == 3


def test_final_norms_keep_averages_and_leave_pooling_alone():
    norms = final_norms(True)
    for place in (norms.stem, norms.conv):
        assert set(place().init(jax.random.key(0), images(0))) == {"params", "batch_stats"}
    assert norms.pool()(3) == 3


def test_final_norms_evaluate_with_the_averages():
    norm = final_norms(False).conv()
    variables = norm.init(jax.random.key(0), images(0))
    np.testing.assert_allclose(
        norm.apply(variables, images(1)), images(1) / np.sqrt(1 + EPS), rtol=1e-5
    )


def test_normalize_returns_mean_and_biased_variance():
    with enable_x64(True):
        x = np.random.default_rng(0).normal(size=(2, 3, 2, 4))
        y, mean, var = normalize(jnp.asarray(x), None, None, EPS)
        np.testing.assert_allclose(mean, x.mean((0, 1, 2)), atol=1e-12)
        np.testing.assert_allclose(var, x.var((0, 1, 2)), atol=1e-12)
        np.testing.assert_allclose(
            y, (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + EPS), atol=1e-12
        )


@pytest.mark.parametrize("mapped", [False, True])
def test_gradients_of_normalize_equal_the_automatic_ones_to_second_order(mapped):
    with enable_x64(True):
        x, cotangent, direction = np.random.default_rng(0).normal(size=(3, 3, 2, 3, 2, 4))

        def both(function):
            def value(x, cotangent):
                return jnp.vdot(jnp.sin(function(x)), cotangent)

            def inner(x, cotangent, direction):
                return jnp.vdot(jax.grad(value)(x, cotangent), direction)

            def gradients(x, cotangent, direction):
                return jax.grad(value)(x, cotangent), jax.grad(inner, (0, 1))(
                    x, cotangent, direction
                )

            if mapped:
                return jax.jit(jax.vmap(gradients))(x, cotangent, direction)
            return jax.jit(gradients)(x[0], cotangent[0], direction[0])

        pairs = zip(
            jax.tree.leaves(both(lambda x: normalize(x, None, None, EPS)[0])),
            jax.tree.leaves(both(naive)),
            strict=True,
        )
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_gradient_of_normalize_equals_finite_differences():
    with enable_x64(True):
        x, cotangent, direction = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 3, 2, 4)))

        def value(x):
            return jnp.vdot(normalize(x, None, None, EPS)[0], cotangent)

        difference = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jnp.vdot(jax.grad(value)(x), direction), difference, rtol=1e-8)


def test_gradient_of_normalize_is_blind_to_shifts_and_sums_to_zero():
    gradient = jax.grad(lambda x: jnp.vdot(normalize(x, None, None, EPS)[0], images(1)))(images(0))
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), np.zeros(4), atol=1e-4)


def test_channels_that_do_not_vary_give_zero_and_a_finite_gradient():
    x = jnp.ones((2, 3, 2, 4))
    np.testing.assert_array_equal(normalize(x, None, None, EPS)[0], jnp.zeros_like(x))
    assert jnp.isfinite(
        jax.grad(lambda x: jnp.vdot(normalize(x, None, None, EPS)[0], images(1)))(x)
    ).all()


@pytest.mark.parametrize("mapped", [False, True])
def test_scale_and_shift_in_the_norm_equal_those_after_it_to_second_order(mapped):
    with enable_x64(True):
        draw = np.random.default_rng(0).normal
        x, cotangent, direction = draw(size=(3, 3, 2, 3, 2, 4))
        scale, shift, of_scale, of_shift = draw(size=(4, 3, 4))

        def inside(x, scale, shift):
            return normalize(x, scale, shift, EPS)[0]

        def after(x, scale, shift):
            return naive(x) * scale + shift

        def both(function):
            def value(args, cotangent):
                return jnp.vdot(jnp.sin(function(*args)), cotangent)

            def inner(args, cotangent, directions):
                pairs = zip(jax.grad(value)(args, cotangent), directions, strict=True)
                return sum(jnp.vdot(g, d) for g, d in pairs)

            def gradients(args, cotangent, directions):
                first = value(args, cotangent), jax.grad(value)(args, cotangent)
                return first, jax.grad(inner, (0, 1))(args, cotangent, directions)

            args = (x, scale, shift), cotangent, (direction, of_scale, of_shift)
            return (
                jax.vmap(gradients)(*args)
                if mapped
                else gradients(*jax.tree.map(lambda array: array[0], args))
            )

        pairs = zip(jax.tree.leaves(both(inside)), jax.tree.leaves(both(after)), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
