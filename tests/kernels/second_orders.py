"""How the tests of kernels compare one with a plain function, to second order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from floats import normal

__all__ = ["assert_equal", "gradients", "second_order"]


def gradients(function, *args):
    """(value, gradients, gradients of <gradients, directions>): reverse mode twice; and forward
    mode over reverse."""
    y = function(*args)
    cotangent = normal(90, *y.shape)
    directions = [normal(91 + number, *arg.shape) for number, arg in enumerate(args)]
    places = tuple(range(len(args)))

    def first(cotangent, *args):
        # A nonlinear function of y, so that the second order sees the cotangent change as well.
        return jax.grad(lambda *args: jnp.vdot(jnp.tanh(function(*args)), cotangent), places)(*args)

    def inner(cotangent, *args):
        return sum(jnp.vdot(g, d) for g, d in zip(first(cotangent, *args), directions, strict=True))

    twice = jax.grad(inner, (0, *(1 + place for place in places)))(cotangent, *args)
    forward = jax.jvp(lambda *args: first(cotangent, *args), args, tuple(directions))[1]
    return y, first(cotangent, *args), twice, forward


@functools.cache
def second_order(function, *static):
    """`gradients` of `function(*arrays, *static)`, compiled once for all tests that compare with
    it."""
    return jax.jit(lambda *arrays: gradients(lambda *arrays: function(*arrays, *static), *arrays))


def assert_equal(ours, theirs):
    assert jax.tree.leaves(ours)[0].dtype == jnp.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), ours, theirs)
