"""Forms for accelerators compute what those for a CPU do, tried on a CPU that is told to be one."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import enable_x64, normal
from supernets import logits_of, weights_of

from dnas import SPACES
from dnas.cells.edge_ops import EdgeOps
from dnas.cells.mixed_cell import default_schedule
from dnas.cells.mixed_op import shuffle
from dnas.cells.norms import search_norms
from dnas.kernels.backend import on_cpu, written
from dnas.kernels.convolutions import depthwise_conv, every_pixel
from dnas.kernels.norms import mixed_norm_sum, normalize
from dnas.kernels.pooling import avg_pool, max_pool
from dnas.kernels.sums import channel_sum
from dnas.spaces import darts_space

pytestmark = pytest.mark.usefixtures("float64")


def on_an_accelerator(function, *args):
    """function(*args) with the kernels for an accelerator.

    What was traced for one device must not run on the other. JAX knows its programs by, among
    others, the precision of products, which on a CPU is the same whatever it is called.
    """
    with pytest.MonkeyPatch.context() as patch, jax.default_matmul_precision("highest"):
        patch.setattr(jax, "default_backend", lambda: "gpu")
        return function(*args)


def all_of(function, *args):
    """(value, gradients of a function of it, and their derivative along a direction)."""
    places = tuple(range(len(args)))

    def first(*args):
        return jax.grad(lambda *args: jnp.sin(function(*args)).sum(), places)(*args)

    directions = tuple(normal(80 + number, *arg.shape) for number, arg in enumerate(args))
    return jax.jit(lambda *args: (function(*args), jax.jvp(first, args, directions)))(*args)


def test_an_accelerator_runs_waves_and_a_cpu_edges():
    assert on_cpu() and default_schedule() == "edges"
    assert on_an_accelerator(lambda: (on_cpu(), default_schedule())) == (False, "waves")


@pytest.mark.parametrize("sampled", [False, True])
def test_separable_convolutions_run_together_on_an_accelerator_unless_ops_are_sampled(sampled):
    candidates = EdgeOps((SPACES["darts"].cells["normal"],), search_norms(), 1, sampled)
    assert not candidates.all_ops(4, 1).together
    assert on_an_accelerator(lambda: candidates.all_ops(4, 1).together) is not sampled


def conv(stride, dilation, relu, x, kernel):
    return depthwise_conv(x, kernel, stride, dilation, relu)


def convs_over_targets(x, kernels):
    return jax.vmap(lambda kernel: depthwise_conv(x, kernel, 2), 0)(kernels).sum(0)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (functools.partial(conv, 1, 1, True), [(3, 6, 4, 2), (5, 5, 1, 2)]),
        (functools.partial(conv, 2, 2, False), [(3, 5, 7, 2), (3, 3, 1, 2)]),
        (convs_over_targets, [(3, 6, 4, 2), (4, 3, 3, 1, 2)]),
        (max_pool, [(3, 5, 4, 2)]),
        (lambda x: max_pool(x, 2), [(3, 5, 4, 2)]),
        (lambda x: max_pool(x, 2, 2), [(3, 6, 4, 2)]),
        (lambda x: avg_pool(x, 2), [(3, 5, 4, 2)]),
        (lambda x: every_pixel(x, 2, 1), [(3, 6, 4, 2)]),
        (lambda x: shuffle(x, 2), [(2, 3, 3, 6)]),
        (channel_sum, [(3, 5, 4, 2)]),
    ],
    ids=[
        "conv",
        "strided",
        "mapped",
        "max",
        "max_2",
        "max_2x2",
        "mean_2",
        "pixels",
        "shuffle",
        "sum",
    ],
)
def test_a_kernel_for_an_accelerator_equals_that_for_a_cpu_to_second_order(function, shapes):
    args = [normal(number, *shape) for number, shape in enumerate(shapes)]
    chex.assert_trees_all_close(
        on_an_accelerator(all_of, function, *args), all_of(function, *args), rtol=1e-9, atol=1e-9
    )


def test_a_maximum_over_2x2_equals_flax():
    x = normal(1, 3, 6, 4, 2)

    def by_flax(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    for ours, theirs in (
        (max_pool(x, 2, 2), by_flax(x)),
        *[
            [
                jax.grad(lambda x, pool=pool: jnp.sin(pool(x)).sum())(x)
                for pool in (lambda x: max_pool(x, 2, 2), by_flax)
            ]
        ],
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def norms(x, scale, shift, weights):
    plain, scaled = normalize(x, None, None, 1e-5), normalize(x, scale, shift, 1e-5)
    return plain[0] + scaled[0] + mixed_norm_sum(weights, [x, x + scale], (1e-5, None))


def test_norms_for_an_accelerator_equal_those_for_a_cpu_with_their_gradients():
    args = normal(1, 3, 5, 4, 2), normal(2, 2), normal(3, 2), normal(4, 2)

    def gradients(*args):
        return jax.jit(jax.value_and_grad(lambda *args: jnp.sin(norms(*args)).sum(), (0, 1, 2, 3)))(
            *args
        )

    chex.assert_trees_all_close(
        on_an_accelerator(gradients, *args), gradients(*args), rtol=1e-9, atol=1e-9
    )


def test_the_variance_on_an_accelerator_does_not_suffer_from_a_large_mean():
    x = jnp.asarray(normal(1, 64, 8, 8, 2) + 1000.0, jnp.float32)
    _, mean, var = on_an_accelerator(lambda: normalize(x, None, None, 1e-5))
    rows = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, rows.var(0), rtol=1e-5)


def test_what_is_written_is_what_was_given_and_nothing_on_a_cpu():
    arrays = [normal(1, 2, 3), jnp.arange(3)]
    assert written(arrays) is arrays
    chex.assert_trees_all_equal(on_an_accelerator(jax.jit(written), arrays), arrays)
    assert "optimization_barrier" in str(on_an_accelerator(jax.make_jaxpr(written), arrays))


DARTS = SPACES["darts"]
# An op of each kind that has a form of its own on an accelerator.
SMALL = darts_space(
    name="small",
    ops=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"),
    num_nodes=2,
)


def soft_mix(spec):
    return jax.nn.softmax(jnp.asarray(normal(2, len(spec.edges), len(spec.ops)), jnp.float32))


def hard_mix(spec):
    return jax.nn.one_hot(
        np.arange(len(spec.edges)) % len(spec.ops), len(spec.ops), dtype=jnp.float32
    )


@pytest.mark.parametrize(
    ("space", "mix", "sizes"),
    [
        (SMALL, soft_mix, {"num_cells": 2}),
        (SMALL, hard_mix, {"num_cells": 2, "sampled": True}),
        (SPACES["nasbench201"], hard_mix, {"num_cells": 3, "sampled": True}),
        pytest.param(DARTS, soft_mix, {"num_cells": 2}, marks=pytest.mark.slow),
        pytest.param(DARTS, hard_mix, {"num_cells": 2, "sampled": True}, marks=pytest.mark.slow),
        pytest.param(
            DARTS, soft_mix, {"num_cells": 2, "partial_channels": 2}, marks=pytest.mark.slow
        ),
        pytest.param(SPACES["s1"], soft_mix, {"num_cells": 2}, marks=pytest.mark.slow),
    ],
    ids=["small", "small_sampled", "chain", "waves", "sampled", "partial", "sets"],
)
def test_the_supernet_of_an_accelerator_is_that_of_a_cpu_gradients_included(space, mix, sizes):
    images = jnp.asarray(normal(1, 4, 8, 8, 3), jnp.float32)
    mix = {kind: mix(spec) for kind, spec in space.cells.items()}
    weights = None

    def gradients():
        nonlocal weights
        supernet = space.supernet(channels=4, num_classes=3, **sizes)
        if weights is None:
            weights = jax.jit(weights_of(supernet))(jax.random.key(0), images)

        def loss(weights, mix):
            return jax.nn.log_softmax(logits_of(supernet)(weights, mix, images))[:, 0].sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(weights, mix)

    with enable_x64(False):
        chex.assert_trees_all_close(gradients(), on_an_accelerator(gradients), rtol=2e-3, atol=2e-3)
