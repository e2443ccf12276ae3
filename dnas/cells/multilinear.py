"""Functions that are linear in some of their arguments, one by one, with the transposes that one gives them.

JAX differentiates such a function by itself: its derivative is the function again, and the transpose of that is what is
given here. So it has both forward and reverse mode, as often as needed, and no pass ever runs an automatic transpose, which
for the kernels of `dnas.cells` would be many times slower. `jax.custom_vjp` has no forward mode and `jax.custom_jvp` no
transposes of one's own; hence primitives.
"""

from collections.abc import Callable, Mapping
from functools import partial, wraps

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dnas.base import Array


def fence(function: Callable) -> Callable:
    """Returns the function as a call that XLA does not inline; keyword arguments are static.

    Otherwise XLA:CPU merges the taps of several ops into one loop that it cannot vectorise;
    `lax.optimization_barrier` is dropped before fusion and does not prevent it. The call keeps the function's name, by
    which `dnas.hw_loss.counts` recognises it.
    """

    def inside(static, *args):
        with set_xla_metadata(inlineable="true"):  # what is called in here is not fenced again
            return function(*args, **dict(static))

    inside.__name__ = function.__name__
    jitted = jax.jit(inside, static_argnums=0)

    @wraps(function)
    def call(*args, **static):
        with set_xla_metadata(inlineable="false"):
            return jitted(tuple(static.items()), *args)

    return call


def multilinear(function: Callable[..., Array], transposes: Mapping[int, Callable[..., Array]]) -> Callable[..., Array]:
    """Returns the function, fenced, with derivatives of any order in forward and reverse mode, and under vmap.

    Args:
      function: (*arrays, **static) -> array, linear in each of the arguments that `transposes` names while the others stay.
      transposes: for the place of each of these arguments (cotangent, *the other arguments, **static) -> the cotangent of
        this argument. In the other arguments it has no derivative. May be filled later: functions are often transposes of
        each other.
    """
    primitive = Primitive(function.__name__)
    fenced = fence(function)

    def evaluate(*args, axes, **static):
        # For each jax.vmap around, the innermost first, `axes` has whether each argument is mapped, over its first axis.
        return _mapped(partial(fenced, **static), axes)(*args)

    def shape(*args, **params):
        found = jax.eval_shape(partial(evaluate, **params), *(jax.ShapeDtypeStruct(arg.shape, arg.dtype) for arg in args))
        return ShapedArray(found.shape, found.dtype)

    def derive(primals, tangents, **params):
        parts = [
            primitive.bind(*primals[:place], tangent, *primals[place + 1 :], **params)
            for place, tangent in enumerate(tangents)
            if place in transposes and not isinstance(tangent, ad.Zero)
        ]
        y = primitive.bind(*primals, **params)
        return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)

    def transpose(cotangent, *args, axes, **static):
        (place,) = (place for place, arg in enumerate(args) if ad.is_undefined_primal(arg))
        if isinstance(cotangent, ad.Zero):
            return [None] * len(args)
        others = [[*items[:place], *items[place + 1 :]] for items in (args, *axes)]
        levels = tuple((0, *level) for level in others[1:])
        found = _mapped(partial(transposes[place], **static), levels)(cotangent, *others[0])
        # Where this argument is not mapped and the cotangent is, it gets the sum.
        shared = [number for number, level in enumerate(reversed(axes)) if level[place] is None]
        return [found.sum(shared) if number == place else None for number in range(len(args))]

    def batch(args, places, *, axes, **static):
        args = [arg if place is None else jnp.moveaxis(arg, place, 0) for arg, place in zip(args, places, strict=True)]
        level = tuple(None if place is None else 0 for place in places)
        return primitive.bind(*args, axes=(*axes, level), **static), 0

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(shape)
    ad.primitive_jvps[primitive] = derive
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=False))

    @wraps(function)
    def call(*args, **static):
        return primitive.bind(*args, axes=(), **static)

    return call


def _mapped(function: Callable, axes: tuple[tuple[int | None, ...], ...]) -> Callable:
    for level in axes:
        function = jax.vmap(function, level)
    return function
