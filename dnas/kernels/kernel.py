"""What a kernel made for XLA is: one record of all that is known of it.

A kernel is a primitive of JAX, by which counts and exporters find its record. A `multilinear` one
is differentiated as a linear function is: its derivative is the kernel again, and the transpose of
that is given. So it has both forward and reverse mode, as often as needed, and no pass ever runs an
automatic transpose, which would be many times slower. `jax.custom_vjp` has no forward mode and
`jax.custom_jvp` no transposes of one's own; hence primitives. An `opaque` one is differentiated as
what is inside.
"""

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce, wraps
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from dnas.base import Array, PyTree
from dnas.kernels.backend import on_cpu, written

Shape = tuple[int, ...]
Function = TypeVar("Function", bound=Callable[..., Any])


class Convolution(NamedTuple):
    """A kernel in the terms of other runtimes: the convolution of images [B, H, W, C], its first
    argument, with its second."""

    stride: int
    padding: int  # pixels of zeros on every side
    dilation: int = 1
    depthwise: bool = False  # one filter [k, k, 1, C] a channel
    relu: bool = False  # whether images go through a ReLU first


class Pooling(NamedTuple):
    """The same for square windows of images; padding never counts."""

    kind: str  # "max" or "mean"
    window: int
    stride: int


@dataclasses.dataclass(frozen=True)
class Kernel:
    """All that is known of a kernel. Called, it runs: (*arrays, **static) -> array.

    Args:
      primitive: that it is in a jaxpr.
      run: what calls do.
      static: parameters of its equations -> the keywords of the call.
      macs: (shapes of the arguments, shape of the result, **static) -> the multiply-adds that
        count; what norms and pooling compute does not.
      standard: (number of arguments, **static) -> what it is to other runtimes; None where that is
        what its jaxpr says.
    """

    primitive: Primitive
    run: Callable[..., PyTree]
    static: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    macs: Callable[..., int]
    standard: Callable[..., Convolution | Pooling] | None = None

    def __call__(self, *args: PyTree, **static: Any) -> PyTree:
        return self.run(*args, **static)

    def macs_of(self, equation: Any) -> int:
        """Returns the multiply-adds of an equation of a jaxpr whose primitive is this kernel's."""
        shapes = [entry.aval.shape for entry in equation.invars]
        output = equation.outvars[0].aval.shape
        return self.macs(shapes, output, **self.static(equation.params))

    def standard_of(self, equation: Any) -> Convolution | Pooling | None:
        """Returns what such an equation is in the terms of other runtimes."""
        if self.standard is None:
            return None
        return self.standard(len(equation.invars), **self.static(equation.params))


def with_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *,
    nondiff_argnums: Sequence[int] = (),
) -> Callable[[Function], Function]:
    """Returns the decorator that gives a function a gradient of its own, as `jax.custom_vjp` does.

    Args:
      forward: (*args) -> (value, what the gradient needs).
      backward: (*static args, what the gradient needs, cotangent) -> cotangents of the args.
    """

    def decorate(function: Function) -> Function:
        made = jax.custom_vjp(function, nondiff_argnums=tuple(nondiff_argnums))
        made.defvjp(forward, backward)
        return cast(Function, made)

    return decorate


KERNELS: dict[Primitive, Kernel] = {}  # every kernel, by its primitive


def uncounted(inputs: Sequence[Shape], output: Shape, **static: Any) -> int:
    """The `macs` of a kernel whose work is not counted."""
    return 0


def fence(function: Callable) -> Callable:
    """Returns the function as a call that XLA does not inline on a CPU; keyword arguments are
    static.

    Otherwise XLA:CPU merges the taps of several ops into one loop that it cannot vectorise;
    `lax.optimization_barrier` is dropped before fusion and does not prevent it. On a GPU the
    contents of such a call would be a kernel an operation, so there it is an ordinary call.
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
    *,
    macs: Callable[..., int] = uncounted,
    standard: Callable[..., Convolution | Pooling] | None = None,
) -> Kernel:
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
      macs, standard: as `Kernel` has them.
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
            *map(_like, args),
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

    def static(params):
        return {name: own for name, own in params.items() if name not in ("axes", "terms")}

    run = partial(primitive.bind, axes=(), terms=1)
    return _registered(Kernel(primitive, run, static, macs, standard))


def _registered(kernel: Kernel) -> Kernel:
    KERNELS[kernel.primitive] = kernel
    return kernel


def opaque(
    function: Callable[..., PyTree],
    *,
    macs: Callable[..., int] = uncounted,
    standard: Callable[..., Convolution | Pooling] | None = None,
) -> Kernel:
    """Returns the function, fenced, as a kernel whose derivatives are those of what is inside.

    Args:
      function: (*trees of arrays, **static) -> tree of arrays.
      macs, standard: as `Kernel` has them.
    """
    primitive = Primitive(function.__name__)
    primitive.multiple_results = True
    fenced = fence(function)

    def evaluate(*leaves, tree, static):
        return jax.tree.leaves(fenced(*jax.tree.unflatten(tree, leaves), **dict(static)))

    def shape(*leaves, **params):
        found = jax.eval_shape(partial(evaluate, **params), *map(_like, leaves))
        return [ShapedArray(own.shape, own.dtype) for own in found]

    def derive(primals, tangents, **params):
        whole = tuple(ad.instantiate_zeros(tangent) for tangent in tangents)
        return jax.jvp(partial(evaluate, **params), tuple(primals), whole)

    def batch(leaves, places, **params):
        found = jax.vmap(partial(evaluate, **params), places)(*leaves)
        return found, [0] * len(found)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(shape)
    ad.primitive_jvps[primitive] = derive
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=True))

    def run(*args, **static):
        leaves, tree = jax.tree.flatten(args)
        of_result = jax.tree.structure(jax.eval_shape(partial(fenced, **static), *args))
        found = primitive.bind(*leaves, tree=tree, static=tuple(static.items()))
        return jax.tree.unflatten(of_result, found)

    def static(params):
        return dict(params["static"])

    return _registered(Kernel(primitive, run, static, macs, standard))


def _like(array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


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
