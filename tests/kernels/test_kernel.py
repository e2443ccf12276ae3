"""A function that is given its transposes is differentiated as JAX differentiates the same function
written plainly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floats import normal

from dnas.kernels.kernel import multilinear


def gated_product(x, y, gate, *, scale):
    """[3] from [3, 4], [4] and [3]: linear in x and in y, not in the gate."""
    return scale * (jnp.where(gate[:, None] > 0, x, 0) @ y)


def outer(z, y, gate, *, scale):
    return scale * jnp.where(gate > 0, z, 0)[:, None] * y


def transposed(z, x, gate, *, scale):
    return scale * (jnp.where(gate > 0, z, 0) @ x)


OF_PRODUCT, OF_OUTER, OF_TRANSPOSED = {}, {}, {}
PRODUCT, OUTER = multilinear(gated_product, OF_PRODUCT), multilinear(outer, OF_OUTER)
TRANSPOSED = multilinear(transposed, OF_TRANSPOSED)
OF_PRODUCT |= {0: OUTER, 1: TRANSPOSED}
OF_OUTER |= {0: PRODUCT, 1: lambda x, z, gate, **s: TRANSPOSED(z, x, gate, **s)}
OF_TRANSPOSED |= {
    0: lambda y, x, gate, **s: PRODUCT(x, y, gate, **s),
    1: lambda y, z, gate, **s: OUTER(z, y, gate, **s),
}


def modes(function):
    """Its value, first derivatives and second ones in all four orders of modes."""

    def value(x, y, gate):
        return jnp.sin(function(x, y, gate, scale=2.0)).sum()

    def along(mode, x, y, gate):
        directions = jnp.cos(x), jnp.cos(y)
        if mode == "forward":
            return jax.jvp(lambda *both: value(*both, gate), (x, y), directions)[1]
        gradients = jax.grad(value, (0, 1))(x, y, gate)
        return sum(
            jnp.vdot(*pair)
            for pair in zip(gradients, jax.lax.stop_gradient(directions), strict=True)
        )

    def second(mode, x, y, gate):
        forward = jax.jvp(
            lambda *both: along(mode, *both, gate), (x, y), (jnp.ones_like(x), jnp.ones_like(y))
        )[1]
        return forward, jax.grad(lambda x, y: along(mode, x, y, gate), (0, 1))(x, y)

    return lambda *args: (
        [value(*args)]
        + [f(mode, *args) for f in (along, second) for mode in ("forward", "reverse")]
    )


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.parametrize(
    "axes", [None, (0, 0, 0), (None, 0, None), (0, None, 1), (1, None, None)], ids=str
)
def test_derivatives_of_both_modes_equal_those_of_the_plain_function(axes):
    args, found = [normal(seed, *shape) for seed, shape in enumerate([(3, 4), (4,), (3,)])], []
    if axes is not None:
        args = [
            x if axis is None else jnp.stack([x, x + 1], axis)
            for x, axis in zip(args, axes, strict=True)
        ]
    for function in (PRODUCT, gated_product):
        run = modes(function)
        found.append(jax.jit(run if axes is None else jax.vmap(run, axes))(*args))
    assert_close(*found)


def test_a_map_inside_a_map_equals_the_plain_function():
    x, y, gate = normal(0, 2, 5, 3, 4), normal(1, 5, 4), normal(2, 2, 3)

    def gradients(function):
        inner = jax.vmap(lambda *args: function(*args, scale=3.0), (0, 0, None))
        return jax.jit(
            jax.grad(lambda *args: jnp.sin(jax.vmap(inner, (0, None, 0))(*args)).sum(), (0, 1))
        )(x, y, gate)

    assert_close(gradients(PRODUCT), gradients(gated_product))


def test_what_is_not_linear_has_no_derivative():
    gradient = jax.grad(lambda gate: PRODUCT(normal(0, 3, 4), normal(1, 4), gate, scale=1.0).sum())(
        normal(2, 3)
    )
    np.testing.assert_array_equal(gradient, jnp.zeros(3))
