"""The gradient through virtual steps is that of the function they compose, on a real supernet and
with any optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_problems import smooth_problem, start, train_loss, valid_loss
from floats import enable_x64
from supernets import logits_of, weights_of

from dnas.bilevel import alternating, finite_differences, first_order, sgd, unrolled
from dnas.spaces import DARTS_OPS, darts_space
from dnas.tasks.task import classification_loss

RATE, MOMENTUM, DECAY = 0.05, 0.9, 3e-4
SGD = sgd(RATE, momentum=MOMENTUM, weight_decay=DECAY, clip=None)


def compiled(function, *arguments):
    """The value of the function, compiled in a hurry."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*arguments)


def arch_gradient(gradient, problem, optimizer, state):
    """What the arch gradient gives on a problem (inner, outer, weights, arch)."""
    inner, outer, *both = problem
    return compiled(
        lambda weights, arch, state: gradient(inner, outer, weights, arch, optimizer, state),
        *both,
        state,
    )


def with_buffers(state, buffers):
    """The state of `SGD` with these momentum buffers."""
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(buffers))


def draw(tree, scale, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * scale), tree)


def darts_steps(inner, outer, weights, buffers, steps):
    """arch -> the outer loss after w' = w - xi (mu buffer + grad_w + decay w), so many times:
    DARTS's, written out."""

    def loss(arch):
        w, m = weights, buffers
        for _ in range(steps):
            gradient = jax.grad(lambda w: inner(w, arch)[0])(w)
            m = jax.tree.map(lambda m, g, w: MOMENTUM * m + g + DECAY * w, m, gradient, w)
            w = jax.tree.map(lambda w, m: w - RATE * m, w, m)
        return outer(w, arch)

    return loss


def close(left, right, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right)


@pytest.mark.parametrize("steps", [1, 3])
def test_unrolled_equals_the_gradient_through_darts_steps_written_out(steps):
    with enable_x64(True):
        inner, outer, weights, arch = problem = smooth_problem()
        buffers = draw(weights, 0.5)
        found = arch_gradient(
            unrolled(steps), problem, SGD, with_buffers(SGD.init(weights), buffers)
        )
        expected = compiled(
            jax.grad(darts_steps(inner, outer, weights, buffers, steps), has_aux=True), arch
        )
        close(found, expected, atol=1e-12)
        none = arch_gradient(first_order(), problem, SGD, None)
        assert abs(found[0]["cell"] - none[0]["cell"]).max() > 1e-3


OPTIMIZERS = {
    "adam": optax.adam(0.01),
    "nesterov and clip": sgd(0.05, clip=0.1, nesterov=True),
    "schedule": sgd(optax.exponential_decay(0.1, 1, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_unrolled_goes_through_any_optimizer_and_its_state(name, steps):
    optimizer = OPTIMIZERS[name]
    with enable_x64(True):
        inner, outer, weights, arch = problem = smooth_problem()
        past = draw(weights, 0.2)  # so that the state is not empty
        state = compiled(lambda: optimizer.update(past, optimizer.init(weights), weights)[1])

        def loss(arch):
            w, s = weights, state
            for _ in range(steps):
                updates, s = optimizer.update(jax.grad(lambda w: inner(w, arch)[0])(w), s, w)
                w = jax.tree.map(jnp.add, w, updates)
            return outer(w, arch)

        expected = compiled(jax.grad(loss, has_aux=True), arch)
        close(arch_gradient(unrolled(steps), problem, optimizer, state), expected, atol=1e-12)
        if steps == 1:
            close(
                arch_gradient(finite_differences(1e-5), problem, optimizer, state),
                expected,
                atol=1e-7,
            )


def test_finite_differences_err_by_the_square_of_their_distance():
    """An eps that multiplies where it should divide loses the whole term, which is 100 times what
    is left here."""
    with enable_x64(True):
        problem = smooth_problem()
        gradients = [
            unrolled(),
            first_order(),
            *(finite_differences(scale) for scale in (0.02, 0.01, 0.005)),
        ]
        exact, none, *found = (
            arch_gradient(one, problem, SGD, SGD.init(problem[2]))[0]["cell"] for one in gradients
        )
        errors = [abs(one - exact).max() for one in found]
        np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4.0, rtol=0.01)
        assert 0 < 100 * errors[1] < abs(exact - none).max()


@pytest.mark.parametrize(
    "gradient", [unrolled(), unrolled(3), finite_differences()], ids=["one", "three", "differences"]
)
def test_a_virtual_rate_of_zero_gives_first_order_exactly(gradient):
    still = optax.sgd(0.0)
    state, weights, arch = start(alternating(gradient, still, still), -1.3, 0.7)
    found = gradient(train_loss, valid_loss, weights, arch, still, state.weights)
    assert found == first_order()(train_loss, valid_loss, weights, arch, still, state.weights)


def test_metrics_are_those_of_outer_at_the_virtual_weights():
    weights, arch, optimizer = jnp.asarray(-1.3), jnp.asarray(0.7), optax.sgd(0.1)
    virtual = weights - 0.1 * 2 * (weights - arch)
    for gradient in (unrolled(), finite_differences()):
        _, metrics = gradient(
            train_loss, valid_loss, weights, arch, optimizer, optimizer.init(weights)
        )
        np.testing.assert_allclose(metrics["loss"], valid_loss(virtual, arch)[0], rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: unrolled(0), lambda: finite_differences(0.0)])
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="got 0"):
        make()


def supernet_gradients(space, num_cells, gradients, **how):
    """What arch gradients give on a supernet in float64, and the arguments of `darts_steps`."""
    supernet = space.supernet(channels=2, num_cells=num_cells, num_classes=3, **how)
    random = np.random.default_rng(0)
    images, labels = (
        jnp.asarray(random.normal(size=(2, 4, 8, 8, 3))),
        jnp.asarray(random.integers(0, 3, (2, 4))),
    )
    shapes = jax.eval_shape(weights_of(supernet), jax.random.key(0), images[0])
    weights, buffers = draw(shapes, 0.4), draw(shapes, 0.1, seed=1)
    kinds = {layer.kind for layer in space.layers(channels=2, num_cells=num_cells, image_size=8)}
    arch = {
        kind: jnp.zeros((len(spec.edges), len(spec.ops)))
        for kind, spec in space.cells.items()
        if kind in kinds
    }

    def objective(number):
        def loss(weights, arch):
            mix = jax.tree.map(jax.nn.softmax, arch)
            return classification_loss(
                logits_of(supernet)(weights, mix, images[number]), labels[number]
            )

        return loss

    inner, outer = objective(0), objective(1)
    state = with_buffers(SGD.init(weights), buffers)

    def run(function):
        return compiled(function, draw(arch, 1.0, seed=2), weights, buffers, state)

    found = [
        run(
            lambda arch, weights, buffers, state, one=one: one(
                inner, outer, weights, arch, SGD, state
            )[0]
        )
        for one in gradients
    ]

    def written_out(steps):
        def gradient(arch, weights, buffers, state):
            return jax.grad(darts_steps(inner, outer, weights, buffers, steps), has_aux=True)(arch)[
                0
            ]

        return run(gradient)

    return found, written_out


def test_unrolled_on_a_supernet_equals_the_gradient_through_the_virtual_step():
    space = darts_space(num_nodes=1, ops=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
    with enable_x64(True):
        (found,), written_out = supernet_gradients(space, 1, [unrolled()])
        close(found, written_out(1), atol=1e-10)
        assert all(abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(found))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [{"schedule": "waves"}, {"remat": False}, {"sampled": True}, {"partial_channels": 2}],
    ids=str,
)
def test_unrolled_equals_the_gradient_through_two_virtual_steps_however_the_supernet_runs(how):
    space = darts_space(num_nodes=2, ops=("avg_pool_3x3", "skip_connect", "dil_conv_3x3"))
    with enable_x64(True):
        (found,), written_out = supernet_gradients(space, 1, [unrolled(2)], **how)
        close(found, written_out(2), atol=1e-10)


@pytest.mark.slow
def test_second_order_gradients_agree_on_a_supernet_of_all_ops_and_both_kinds_of_cells():
    space = darts_space(num_nodes=2, ops=DARTS_OPS)
    with enable_x64(True):
        gradients = [unrolled(), finite_differences(1e-4), first_order()]
        (exact, differences, none), written_out = supernet_gradients(space, 3, gradients)
        close(exact, written_out(1), atol=1e-10)
        close(differences, exact, atol=1e-6)
        for kind in space.cells:
            assert abs(exact[kind] - none[kind]).max() > 1e-4
