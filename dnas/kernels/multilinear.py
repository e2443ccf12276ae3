"""Functions that are linear in some of their arguments, one by one, with the transposes that one
gives them.

JAX differentiates such a function by itself: its derivative is the function again, and the
transpose of that is what is given here. So it has both forward and reverse mode, as often as
needed, and no pass ever runs an automatic transpose, which for the kernels of `dnas.cells` would be
many times slower. `jax.custom_vjp` has no forward mode and `jax.custom_jvp` no transposes of one's
own; hence primitives.
"""

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce, wraps

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dnas.base import Array
from dnas.kernels.backend import on_cpu, written


def fence(function: Callable) -> Callable:
    """Returns the function as a call that XLA does not inline on a CPU; keyword arguments are
    static.

    Otherwise XLA:CPU merges the taps of several ops into one loop that it cannot vectorise;
    `lax.optimization_barrier` is dropped before fusion and does not prevent it. On a GPU the
    contents of such a call would be a kernel an operation, so there it is an ordinary call. The
    call keeps the function's name, by which `dnas.hw_loss.counts` recognises it.
    """

    def inside(static, *args):
        with _inlineable(True):  # what is called in here is not fenced again
            return function(*args, **dict(static))

    inside.__name__ = function.__name__
    jitted = jax.jit(inside, static_argnums=0)

    @wraps(function)
    def call(*args, **static):
        with _inlineable(False):
            return jitted(tuple(static.items()), *args)

    return call


def _inlineable(whether: bool):
    return (
        set_xla_metadata(inlineable=str(whether).lower()) if on_cpu() else contextlib.nullcontext()
    )


def multilinear(
    function: Callable[..., Array],
    transposes: Mapping[int, Callable[..., Array]],
    shape_of: Callable[..., tuple[int, ...]] | None = None,
    prepare: Callable[..., Sequence[Array]] = lambda *args, **static: args,
) -> Callable[..., Array]:
    """Returns the function, fenced, with derivatives of any order in forward and reverse mode, and
    under vmap.

    Args:
      function: (*arrays, **static) -> array, linear in each of the arguments that `transposes`
        names while the others stay.
      transposes: for the place of each of these arguments (cotangent, *the other arguments,
        **static) -> the cotangent of this argument. In the other arguments it has no derivative.
        May be filled later: functions are often transposes of each other.
      shape_of: (*arrays, **static) -> the shape of the result, which has the type of the first
        array. Where only shapes are asked for, as by an initialisation, the function is then never
        traced. Unless given it is, to learn the shape.
      prepare: (*arrays, **static) -> what `function` is given instead; linear as well. It runs
        outside the fence, where XLA computes once what several functions prepare alike.
    """
    primitive = Primitive(function.__name__)

    def sum_of_terms(*args, terms, **static):
        return reduce(operator.add, [function(*group, **static) for group in _split(args, terms)])

    sum_of_terms.__name__ = function.__name__
    fenced = fence(sum_of_terms)

    def prepared(*args, terms, **static):
        groups = [prepare(*group, **static) for group in _split(args, terms)]
        return written(
            fenced(*written([arg for group in groups for arg in group]), terms=terms, **static)
        )

    def evaluate(*args, axes, **static):
        # For each jax.vmap around, the innermost first, `axes` has whether each argument is mapped,
        # over its first axis.
        return _mapped(partial(prepared, **static), axes)(*args)

    def shape(*args, axes, terms, **static):
        if shape_of is not None:
            return _shape_in_maps(partial(shape_of, **static), args, axes, terms)
        found = jax.eval_shape(
            partial(evaluate, axes=axes, terms=terms, **static),
            *(jax.ShapeDtypeStruct(arg.shape, arg.dtype) for arg in args),
        )
        return ShapedArray(found.shape, found.dtype)

    def derive(primals, tangents, *, axes, terms, **static):
        # Each tangent gives a term. One kernel sums them, which takes less time than one each and
        # the additions.
        width, args, levels = len(primals) // terms, [], [[] for _ in axes]
        for place, tangent in enumerate(tangents):
            start = place - place % width
            if place - start in transposes and not isinstance(tangent, ad.Zero):
                args += [*primals[start:place], tangent, *primals[place + 1 : start + width]]
                for level, whole in zip(levels, axes, strict=True):
                    level += whole[start : start + width]
        y = primitive.bind(*primals, axes=axes, terms=terms, **static)
        if not args:
            return y, jnp.zeros_like(y)
        return y, primitive.bind(
            *args, axes=tuple(map(tuple, levels)), terms=len(args) // width, **static
        )

    def transpose(cotangent, *args, axes, terms, **static):
        width, found = len(args) // terms, [None] * len(args)
        for place, arg in enumerate(args):
            if not ad.is_undefined_primal(arg) or isinstance(cotangent, ad.Zero):
                continue
            start = place - place % width
            others = [
                [*items[start:place], *items[place + 1 : start + width]] for items in (args, *axes)
            ]
            levels = tuple((0, *level) for level in others[1:])
            mine = _mapped(partial(transposes[place - start], **static), levels)(
                cotangent, *others[0]
            )
            # Where this argument is not mapped and the cotangent is, it gets the sum.
            found[place] = mine.sum(
                [number for number, level in enumerate(reversed(axes)) if level[place] is None]
            )
        return found

    def batch(args, places, *, axes, **static):
        args = [
            arg if place is None else jnp.moveaxis(arg, place, 0)
            for arg, place in zip(args, places, strict=True)
        ]
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
        return primitive.bind(*args, axes=(), terms=1, **static)

    return call


def _shape_in_maps(
    shape_of: Callable, args: Sequence, axes: Sequence[Sequence[int | None]], terms: int
) -> ShapedArray:
    """The shape where each map, the innermost first, has taken the first axis of the arrays that it
    maps."""
    shapes, around = [list(arg.shape) for arg in args], []
    for level in reversed(axes):
        around.append(
            {
                shape.pop(0)
                for shape, place in zip(shapes, level, strict=True)
                if place is not None
            }.pop()
        )
    inner = shape_of(
        *(jax.ShapeDtypeStruct(tuple(shape), args[0].dtype) for shape in _split(shapes, terms)[0])
    )
    return ShapedArray((*around, *inner), args[0].dtype)


def _split(args: Sequence, terms: int) -> list[Sequence]:
    width = len(args) // terms
    return [args[start : start + width] for start in range(0, len(args), width)]


def _mapped(function: Callable, axes: tuple[tuple[int | None, ...], ...]) -> Callable:
    for level in axes:
        function = jax.vmap(function, level)
    return function
