"""A network in the terms of other runtimes: library convolutions and pooling, norms folded into convolutions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from dnas.base import Array


def standard_ops(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Returns a function of the same values, written with convolutions, pooling and ReLUs that exporters know.

    Depthwise sums over taps become grouped convolutions, products over the channels of images 1x1 convolutions, calls are
    written out, what does not depend on the arguments is computed here, and a chain of scales and shifts of channels, such
    as a norm with running averages, goes into the kernel and the bias of the convolution before it.

    Args:
      function: of arrays; whatever else it depends on, such as the variables of a network, is a constant of the result.
      args: arrays or shapes that it is traced for.

    Example:
      >>> from dnas.cells.kernels import depthwise_conv
      >>> x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
      >>> standard = standard_ops(lambda x: depthwise_conv(x, kernel), x)
      >>> bool(jnp.allclose(standard(x), depthwise_conv(x, kernel)))
      True
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)

    def standard(*args):
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), [_computed(value) for value in outputs])

    return standard


class _Affine(NamedTuple):
    """gain * y + shift for each channel, not computed yet; where y is a convolution, it takes both."""

    run: Callable[[np.ndarray | None, np.ndarray | None], Array]  # (gain, shift) -> value
    channels: int
    gain: np.ndarray | None = None  # [C]
    shift: np.ndarray | None = None

    def value(self) -> Array:
        return self.run(self.gain, self.shift)


def _computed(value):
    return value.value() if isinstance(value, _Affine) else value


def _run(jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for equation in jaxpr.eqns:
        inputs = [entry.val if isinstance(entry, core.Literal) else values[entry] for entry in equation.invars]
        values.update(zip(equation.outvars, _outputs(equation, inputs), strict=True))
    return [entry.val if isinstance(entry, core.Literal) else values[entry] for entry in jaxpr.outvars]


def _outputs(equation, inputs: list[Any]) -> list[Any]:
    if not any(isinstance(value, (_Affine, jax.core.Tracer)) for value in inputs):
        with jax.ensure_compile_time_eval():
            return _written_out(equation, inputs)
    name, out = equation.params.get("name", equation.primitive.name), equation.outvars[0].aval
    if name in ("add", "sub", "mul") and (changed := _scaled_or_shifted(name, *inputs, out)) is not None:
        return [changed]
    inputs = [_computed(value) for value in inputs]
    if name in _RULES:
        return [_RULES[name](*inputs, out=out, **equation.params)]
    return _written_out(equation, inputs)


def _written_out(equation, inputs: list[Any]) -> list[Any]:
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if inner is not None and equation.primitive.name not in ("scan", "while"):
        inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())
        return _run(inner, consts, inputs)
    return _bind(equation, inputs)


def _bind(equation, inputs: list[Any]) -> list[Any]:
    found = equation.primitive.bind(*inputs, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _scaled_or_shifted(name: str, a: Any, b: Any, out) -> _Affine | None:
    """The affine map of the channels that `a` op `b` is, or None where it is none."""
    swapped = not isinstance(a, (_Affine, jax.core.Tracer))
    x, constant = (b, a) if swapped else (a, b)
    if isinstance(constant, (_Affine, jax.core.Tracer)) or out.ndim != 4 or (swapped and name == "sub"):
        return None
    constant = np.asarray(constant)
    if constant.size not in (1, out.shape[-1]) or (constant.size > 1 and constant.shape[-1] != constant.size):
        return None
    constant = np.broadcast_to(constant.reshape(-1), out.shape[-1])
    if not isinstance(x, _Affine):
        x = _Affine(partial(_scale_and_shift, x), out.shape[-1])
    if name == "mul":
        return x._replace(
            gain=constant if x.gain is None else x.gain * constant, shift=None if x.shift is None else x.shift * constant
        )
    constant = -constant if name == "sub" else constant
    return x._replace(shift=constant if x.shift is None else x.shift + constant)


def _scale_and_shift(x: Array, gain: np.ndarray | None, shift: np.ndarray | None) -> Array:
    x = x if gain is None else x * gain
    return x if shift is None else x + shift


def _convolution(x: Array, kernel: Array, out, *, strides, padding, dilation=(1, 1), groups=1) -> _Affine:
    kernel = np.asarray(kernel)

    def run(gain, shift):
        # As a layer with a bias, which runtimes compute with the convolution; a sum after it they do not.
        layer = nn.Conv(
            out.shape[-1],
            kernel.shape[:2],
            strides,
            padding,
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=shift is not None,
        )
        params = {"kernel": kernel if gain is None else kernel * gain} | ({} if shift is None else {"bias": shift})
        return layer.apply({"params": params}, x)

    return _Affine(run, out.shape[-1])


def _is_constant(value) -> bool:
    return not isinstance(value, jax.core.Tracer)


def _conv(
    x: Array, kernel: Array, *, out, dimension_numbers, window_strides, padding, rhs_dilation, feature_group_count, **rest
):
    if dimension_numbers.lhs_spec != (0, 3, 1, 2) or dimension_numbers.rhs_spec != (3, 2, 0, 1) or not _is_constant(kernel):
        raise ValueError("only convolutions of images [B, H, W, C] with fixed kernels can be exported")
    return _convolution(
        x, kernel, out, strides=window_strides, padding=padding, dilation=rhs_dilation, groups=feature_group_count
    )


def _depthwise(x: Array, kernel: Array, *gate: Array, out, side, stride, dilation, **rest) -> _Affine:
    x = nn.relu(x) if gate else x
    padding = [(dilation * (side // 2),) * 2] * 2
    dilation = (dilation, dilation)
    return _convolution(x, kernel, out, strides=(stride, stride), padding=padding, dilation=dilation, groups=x.shape[-1])


def _dense(x: Array, kernel: Array, *, out, **rest) -> _Affine:
    return _convolution(x, kernel, out, strides=(1, 1), padding=[(1, 1)] * 2)


def _product(x: Array, weight: Array, *, out, dimension_numbers, **rest) -> Any:
    if x.ndim == 4 and weight.ndim == 2 and dimension_numbers == (((3,), (0,)), ((), ())) and _is_constant(weight):
        return _convolution(x, np.asarray(weight)[None, None], out, strides=(1, 1), padding="VALID")
    return lax.dot_general(x, weight, dimension_numbers)


def _max_pool(x: Array, *, out, **rest) -> Array:
    size, smaller = max(zip(x.shape[1:3], out.shape[1:3], strict=True))
    return _pool(nn.max_pool, x, -(-size // smaller), float(np.finfo(np.float32).min))


def _sum_pool(x: Array, *, stride, **rest) -> Array:
    return 9 * _pool(nn.avg_pool, x, stride, 0.0)


def _pool(pool: Callable[..., Array], x: Array, stride: int, empty: float) -> Array:
    # jax2onnx knows the words SAME and VALID only, and SAME pads strided windows on one side.
    if stride > 1:
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=empty)
    return pool(x, window_shape=(3, 3), strides=(stride, stride), padding="VALID" if stride > 1 else "SAME")


# By the name of a primitive, or of the function that is called.
_RULES = {
    "conv_forward": _dense,
    "conv_general_dilated": _conv,
    "depthwise_forward": _depthwise,
    "dot_general": _product,
    "max_pool_forward": _max_pool,
    "relu": lambda x, **rest: nn.relu(x),
    "sum_pool_forward": _sum_pool,
}
