"""A network in the terms of other runtimes: library convolutions and pooling, norms folded into
convolutions."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend import core
from jax.extend.core import primitives

from dnas.base import Array
from dnas.kernels.kernel import KERNELS, Convolution, Pooling


def standard_ops(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Returns a function of the same values, written with convolutions, pooling and ReLUs that
    exporters know.

    Depthwise sums over taps become grouped convolutions, products over the channels of images 1x1
    convolutions, calls are written out, what does not depend on the arguments is computed here, and
    a chain of scales and shifts of channels, such as a norm with running averages, goes into the
    kernel and the bias of the convolution before it. Products over every second pixel are
    convolutions with a stride, and those of one image whose channels end side by side, as in a
    factorized reduction, are one.

    Args:
      function: of arrays; whatever else it depends on, such as the variables of a network, is a
        constant of the result.
      args: arrays or shapes that it is traced for; how many images there are may be left open, as
        `jax.export.symbolic_shape` does.

    Example:
      >>> import jax.numpy as jnp
      >>> from dnas.kernels.convolutions import depthwise_conv
      >>> x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
      >>> standard = standard_ops(lambda x: depthwise_conv(x, kernel), x)
      >>> bool(jnp.allclose(standard(x), depthwise_conv(x, kernel)))
      True
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

    def standard(*args):
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        values = map(_whole, outputs, closed.jaxpr.outvars)
        return jax.tree.unflatten(jax.tree.structure(shapes), [*values])

    return standard


class _Convolution(NamedTuple):
    """A convolution of images with a fixed kernel [h, w, C/groups, O]."""

    x: Array
    kernel: np.ndarray
    strides: tuple[int, int]
    padding: Any  # as `flax.linen.Conv` takes it
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __call__(self, gain: np.ndarray | None, shift: np.ndarray | None) -> Array:
        # As a layer with a bias, which runtimes compute with the convolution; a sum after it they
        # do not.
        layer = nn.Conv(
            self.kernel.shape[-1],
            self.kernel.shape[:2],
            self.strides,
            self.padding,
            kernel_dilation=self.dilation,
            feature_group_count=self.groups,
            use_bias=shift is not None,
        )
        kernel = self.kernel if gain is None else self.kernel * gain
        params = {"kernel": kernel} | ({} if shift is None else {"bias": shift})
        return cast(Array, layer.apply({"params": params}, self.x))


class _Affine(NamedTuple):
    """gain * y + shift for each channel, not computed yet; where y is a convolution, it takes
    both."""

    run: Callable[[np.ndarray | None, np.ndarray | None], Array]  # (gain, shift) -> value
    channels: int
    gain: np.ndarray | None = None  # [C]
    shift: np.ndarray | None = None

    def value(self) -> Array:
        return self.run(self.gain, self.shift)


class _Strided(NamedTuple):
    """Every so many pixels of x, from one on, not taken yet: a product over the channels is a
    convolution with a stride.

    A slice is more than work done for nothing: it is not a thing that ONNX Runtime can do in the
      layout of its convolutions.
    """

    x: Array
    first: tuple[int, int]  # row and column
    strides: tuple[int, int]

    def value(self) -> Array:
        return _every(self.x, self.first, self.strides)


def _every(x: Array, first: tuple[int, int], strides: tuple[int, int]) -> Array:
    """Every so many rows and columns, from one on; indexing would gather them where the number of
    images is open."""
    return lax.slice(x, (0, *first, 0), x.shape, (1, *strides, 1))


_LATER = (_Affine, _Strided)


def _computed(value):
    return value.value() if isinstance(value, _LATER) else value


def _is_known(value) -> bool:
    return not isinstance(value, (*_LATER, Tracer))


def _of_one_image(sizes: Any) -> Any:
    """Sizes, such as a shape or the parameters of an equation, with 1 in place of any number of
    images."""
    return jax.tree.map(lambda size: 1 if isinstance(size, _ANY_NUMBER) else size, sizes)


_ANY_NUMBER = type(jax.export.symbolic_shape("B")[0])


def _whole(value: Any, entry: Any) -> Any:
    """The value of a variable, computed.

    What is known of any number of images is known of one of them, and repeated here.
    """
    value, shape = _computed(value), entry.aval.shape
    return value if np.shape(value) == shape else jnp.broadcast_to(value, shape)


def _run(
    jaxpr, consts: Sequence[Any], args: Sequence[Any], used: Sequence[bool] | None = None
) -> list[Any]:
    """The outputs of a jaxpr, None for those that are not used."""
    used = [True] * len(jaxpr.outvars) if used is None else used
    equations = _needed(jaxpr, used)[0]
    outputs = [entry for entry, use in zip(jaxpr.outvars, used, strict=True) if use]
    readers = Counter(
        filter(
            _is_variable,
            [*itertools.chain(*(equation.invars for equation, _ in equations)), *outputs],
        )
    )
    values = {}

    def keep(entries, found):
        # What several read is computed at once, or each would compute it again.
        values.update(
            (e, _computed(value) if readers[e] > 1 else value)
            for e, value in zip(entries, found, strict=True)
        )

    def read(entry):
        return values.get(entry) if _is_variable(entry) else entry.val

    keep([*jaxpr.constvars, *jaxpr.invars], [*consts, *args])
    for equation, used_outputs in equations:
        keep(equation.outvars, _outputs(equation, list(map(read, equation.invars)), used_outputs))
    return [read(entry) if use else None for entry, use in zip(jaxpr.outvars, used, strict=True)]


def _needed(jaxpr, used: Sequence[bool]) -> tuple[list[tuple[Any, list[bool]]], list[bool]]:
    """The equations that used outputs depend on, each with which of its own outputs are, and which
    inputs are.

    Runtimes run what leads nowhere, such as branches of a cell that end at an edge of `none`.
    """
    needed, found = (
        {
            entry
            for entry, use in zip(jaxpr.outvars, used, strict=True)
            if use and _is_variable(entry)
        },
        [],
    )
    for equation in reversed(jaxpr.eqns):
        used_outputs = [entry in needed for entry in equation.outvars]
        if any(used_outputs):
            inner = _inner(equation)
            used_inputs = (
                [True] * len(equation.invars)
                if inner is None
                else _needed(inner[0], used_outputs)[1]
            )
            needed |= {
                entry
                for entry, use in zip(equation.invars, used_inputs, strict=True)
                if use and _is_variable(entry)
            }
            found.append((equation, used_outputs))
    return found[::-1], [entry in needed for entry in jaxpr.invars]


def _is_variable(entry) -> bool:
    return not isinstance(entry, core.Literal)


def _inner(equation) -> tuple[Any, Sequence[Any]] | None:
    """(jaxpr, constants) of an equation that is a call and is written out; None of others."""
    if equation.primitive in (primitives.scan_p, primitives.while_p):
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if inner is None:
        return None
    return (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())


def _outputs(equation, inputs: list[Any], used: Sequence[bool]) -> list[Any]:
    if all(map(_is_known, inputs)):
        with jax.ensure_compile_time_eval():
            return _written_out(equation, inputs, used)
    if equation.primitive in KERNELS:
        form = KERNELS[equation.primitive].standard_of(equation)
        if form is not None:
            return [_of_kernel(form, *map(_computed, inputs))]
    elif equation.primitive in _RULES:
        out = equation.outvars[0].aval
        found = _RULES[equation.primitive](*inputs, out=out, **equation.params)
        if found is not None:
            return [found]
    return _written_out(equation, inputs, used)


def _written_out(equation, inputs: list[Any], used: Sequence[bool]) -> list[Any]:
    inner = _inner(equation)
    if inner is not None:
        return _run(*inner, inputs, used)
    params = equation.params
    if all(map(_is_known, inputs)):
        params = _of_one_image(params)
    else:
        inputs = [*map(_whole, inputs, equation.invars)]
    found = equation.primitive.bind(*inputs, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def _without_zeros(a: Any, b: Any, out) -> Any:
    """The summand beside one that is zero everywhere, as edges of `none` are: no runtime finds out.
    None if neither is."""
    for zeros, other in ((a, b), (b, a)):
        if (
            _is_known(zeros)
            and not _is_known(other)
            and not np.asarray(zeros).any()
            and np.shape(zeros) in ((), _of_one_image(out.shape))
        ):
            return other
    return None


def _sum(a: Any, b: Any, *, out, **rest) -> Any:
    del rest
    kept = _without_zeros(a, b, out)
    if kept is not None:
        return kept
    x, constant = _split_constant(a, b, out)
    return None if constant is None else _then(_affine(x, out), None, constant)


def _difference(a: Any, b: Any, *, out, **rest) -> _Affine | None:
    del rest
    constant = _of_channels(b, out)
    return None if constant is None else _then(_affine(a, out), None, -constant)


def _scaled(a: Any, b: Any, *, out, **rest) -> _Affine | None:
    del rest
    x, constant = _split_constant(a, b, out)
    return None if constant is None else _then(_affine(x, out), constant, None)


def _split_constant(a: Any, b: Any, out) -> tuple[Any, np.ndarray | None]:
    """The operand that is not known, and the other as a number for each channel, if it is."""
    return (b, _of_channels(a, out)) if _is_known(a) else (a, _of_channels(b, out))


def _of_channels(constant: Any, out) -> np.ndarray | None:
    """[C] of what has the same number for a channel at all positions; None of everything else."""
    if not _is_known(constant) or out.ndim != 4:
        return None
    constant = np.asarray(constant)
    of_one_image = constant.shape == _of_one_image(out.shape)
    if of_one_image and (constant == constant[:1, :1, :1]).all():
        constant = constant[0, 0, 0]  # what an op makes of zeros
    of_channels = constant.ndim > 0 and constant.shape[-1] == constant.size == out.shape[-1]
    if constant.size != 1 and not of_channels:
        return None
    return np.broadcast_to(constant.reshape(-1), out.shape[-1])


def _affine(x: Any, out) -> _Affine:
    if isinstance(x, _Affine):
        return x
    return _Affine(partial(_scale_and_shift, _computed(x)), out.shape[-1])


def _larger(a: Any, b: Any, *, out, **rest) -> Array | None:
    """The larger of an array and zero, a ReLU."""
    del rest, out
    x, zeros = (b, a) if _is_known(a) else (a, b)
    if not _is_known(zeros) or np.asarray(zeros).any():
        return None
    return nn.relu(_computed(x))


def _joined(*parts: Any, dimension: int, out, **rest) -> _Affine | None:
    del rest
    if dimension != out.ndim - 1 or not all(isinstance(part, _Affine) for part in parts):
        return None
    return _side_by_side(parts)


def _side_by_side(parts: Sequence[_Affine]) -> _Affine:
    """Channels of several maps in a row, as the two convolutions of a factorized reduction that
    share one norm."""
    ends = np.cumsum([part.channels for part in parts])[:-1]

    def run(gain, shift):
        pieces = (
            [None] * len(parts) if numbers is None else np.split(numbers, ends)
            for numbers in (gain, shift)
        )
        return jnp.concatenate(
            [_then(part, *own).value() for part, *own in zip(parts, *pieces, strict=True)], axis=-1
        )

    together = _in_one([part.run for part in parts])
    if together is not None and all(part.gain is None and part.shift is None for part in parts):
        run = together
    return _Affine(run, sum(part.channels for part in parts))


def _in_one(parts: Sequence[Any]) -> _Convolution | None:
    """The convolution that has the channels of all of these, smaller kernels filled up with zeros;
    None where none has."""
    first = parts[0]
    if not all(isinstance(part, _Convolution) and part.x is first.x for part in parts):
        return None
    if any(part[2:] != first[2:] or part.padding != "VALID" or part.groups != 1 for part in parts):
        return None
    sides = np.array([part.kernel.shape[:2] for part in parts])
    sizes = (np.array(first.x.shape[1:3]) - sides) // first.strides
    if (sizes != sizes.min(axis=0)).any():
        return None
    filled = [
        np.pad(part.kernel, ((0, height), (0, width), (0, 0), (0, 0)))
        for part, (height, width) in zip(parts, sides.max(axis=0) - sides, strict=True)
    ]
    return first._replace(kernel=np.concatenate(filled, axis=-1))


def _then(x: _Affine, gain: np.ndarray | None, shift: np.ndarray | None) -> _Affine:
    """gain * x + shift."""
    if gain is not None:
        x = x._replace(
            gain=gain if x.gain is None else x.gain * gain,
            shift=None if x.shift is None else x.shift * gain,
        )
    return x if shift is None else x._replace(shift=shift if x.shift is None else x.shift + shift)


def _scale_and_shift(x: Array, gain: np.ndarray | None, shift: np.ndarray | None) -> Array:
    x = x if gain is None else x * gain
    return x if shift is None else x + shift


def _sliced(x: Any, *, start_indices, limit_indices, strides, **rest) -> Any:
    """Every so many pixels of images, up to their ends, are left for what reads them."""
    del rest
    x = _computed(x)
    steps = strides or (1,) * x.ndim
    whole = tuple(limit_indices) == x.shape and not (start_indices[0] or start_indices[-1])
    if x.ndim == 4 and whole and (steps[0], steps[3]) == (1, 1) and max(steps) > 1:
        return _Strided(x, tuple(start_indices[1:3]), tuple(steps[1:3]))
    return lax.slice(x, start_indices, limit_indices, strides)


def _conv(
    x: Any,
    kernel: Any,
    *,
    out,
    dimension_numbers,
    window_strides,
    padding,
    rhs_dilation,
    feature_group_count,
    **rest,
) -> _Affine:
    del rest
    images = dimension_numbers.lhs_spec == (0, 3, 1, 2)
    if not images or dimension_numbers.rhs_spec != (3, 2, 0, 1) or not _is_known(kernel):
        raise ValueError(
            "only convolutions of images [B, H, W, C] with fixed kernels can be exported"
        )
    fixed = np.asarray(kernel)
    options = window_strides, padding, rhs_dilation, feature_group_count
    return _Affine(_Convolution(_computed(x), fixed, *options), out.shape[-1])


def _product(x: Any, weight: Any, *, out, dimension_numbers, **rest) -> Any:
    del rest
    of_channels = out.ndim == 4 and dimension_numbers == (((3,), (0,)), ((), ()))
    if not of_channels or weight.ndim != 2 or not _is_known(weight):
        return lax.dot_general(_computed(x), _computed(weight), dimension_numbers)
    kernel, strides = np.asarray(weight)[None, None], (1, 1)
    if isinstance(x, _Strided):
        x, (row, column), strides = x
        # It reads its last pixel only.
        kernel = np.pad(kernel, ((row, 0), (column, 0), (0, 0), (0, 0)))
    return _Affine(_Convolution(_computed(x), kernel, strides, "VALID"), out.shape[-1])


def _of_kernel(form: Convolution | Pooling, x: Array, *others: Array) -> Any:
    """A kernel made for XLA as a layer that exporters know."""
    if isinstance(form, Pooling):
        return _pooled(form, x)
    kernel, channels = np.asarray(others[0]), x.shape[-1]
    own = _Convolution(
        nn.relu(x) if form.relu else x,
        kernel,
        (form.stride, form.stride),
        [(form.padding, form.padding)] * 2,
        (form.dilation, form.dilation),
        channels if form.depthwise else 1,
    )
    return _Affine(own, kernel.shape[-1])


def _pooled(form: Pooling, x: Array) -> Array:
    # jax2onnx knows no padding but SAME, which pads strided windows on one side only.
    window, ones = (form.window, form.window), (1, 1)
    if form.kind == "max":
        y = nn.max_pool(x, window_shape=window, strides=ones, padding="SAME")
    else:
        y = nn.avg_pool(
            x, window_shape=window, strides=ones, padding="SAME", count_include_pad=False
        )
    return y if form.stride == 1 else _every(y, (0, 0), (form.stride, form.stride))


# What primitives of JAX become: (*inputs, out=, **parameters) -> the result, or None where the
# primitive stays as it is.
_RULES = {
    primitives.add_p: _sum,
    primitives.concatenate_p: _joined,
    primitives.conv_general_dilated_p: _conv,
    primitives.dot_general_p: _product,
    primitives.max_p: _larger,
    primitives.mul_p: _scaled,
    primitives.slice_p: _sliced,
    primitives.sub_p: _difference,
}
