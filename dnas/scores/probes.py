"""What goes on inside a network: a sum over the equations of its program, which needs no change of
what the network is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun, primitives

from dnas.base import Array, PyTree

# An equation of a jaxpr -> what it adds to the sum, a function of its inputs; None: nothing.
Probe = Callable[[Any], Callable[..., Array] | None]


def probed(function: Callable[..., PyTree], probe: Probe, zero: Array, *args: PyTree):
    """Returns (function(*args), zero + the sum of what the probe reads off every equation that
    runs), under jit.

    Loops and branches are followed: an equation counts as often as its loop turns, and in a branch
    only where that is taken. Of functions with a gradient of their own it follows the function, so
    the result is not for differentiation.

    Raises:
      NotImplementedError: where the probe reads something in a kind of equation that it does not
        know.

    Example:
      >>> import jax.numpy as jnp
      >>> def sizes_of_sines(equation):
      ...     return jnp.size if equation.primitive is primitives.sin_p else None
      >>> def three_times(x):
      ...     return lax.fori_loop(0, 3, lambda number, x: jnp.sin(x), x)
      >>> sines, total = probed(three_times, sizes_of_sines, 0, jnp.ones(5))
      >>> int(total)
      15
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    found, total = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args), probe, zero)
    return jax.tree.unflatten(jax.tree.structure(shapes), found), total


def _run(jaxpr, consts, args, probe: Probe, total):
    """The outputs of a jaxpr, and the sum with what its equations add."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(entry):
        return entry.val if isinstance(entry, Literal) else values[entry]

    for equation in jaxpr.eqns:
        inputs = [read(entry) for entry in equation.invars]
        add = probe(equation)
        if add is not None:
            total = total + add(*inputs)
        found, total = _outputs(equation, inputs, probe, total)
        values.update(zip(equation.outvars, found, strict=True))
    return [read(entry) for entry in jaxpr.outvars], total


def _outputs(equation, inputs: Sequence[Any], probe: Probe, total):
    run = _CONTROL.get(equation.primitive)
    inside = _inside(equation)
    if not any(_reads(own, probe) for own in inside):
        return _as_it_is(equation, inputs), total
    if run is not None:
        return run(equation.params, inputs, probe, total)
    if len(inside) == 1:  # a call
        return _run(*_opened(_called(equation)), inputs, probe, total)
    raise NotImplementedError(f"a probe cannot read what is inside of {equation.primitive}")


def _as_it_is(equation, inputs):
    called = _called(equation)
    if called is not None and equation.primitive is not primitives.jit_p:
        # Of a function with a gradient of its own that is left: nothing differentiates it.
        return jaxpr_as_fun(ClosedJaxpr(*_opened(called)))(*inputs)
    with equation.ctx.manager:  # keeps calls apart that are kept apart, see `fence`
        found = equation.primitive.bind(*inputs, **equation.params)
    return found if equation.primitive.multiple_results else [found]


def _called(equation):
    """The jaxpr of a call; None of what is none."""
    if equation.primitive in _CONTROL:
        return None
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def _opened(jaxpr):
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def _inside(equation) -> list[Any]:
    """The jaxprs in the parameters of an equation."""
    called = _called(equation)
    if called is not None:
        return [called]
    names = ("jaxpr", "branches", "cond_jaxpr", "body_jaxpr")
    found = [equation.params[name] for name in names if name in equation.params]
    return [*found[0]] if "branches" in equation.params else found


def _reads(jaxpr, probe: Probe) -> bool:
    return any(
        probe(equation) is not None or any(_reads(own, probe) for own in _inside(equation))
        for equation in _opened(jaxpr)[0].eqns
    )


def _scan(params, inputs, probe, total):
    jaxpr, consts = _opened(params["jaxpr"])
    given, carried = params["num_consts"], params["num_carry"]
    fixed, first = inputs[:given], inputs[given : given + carried]

    def body(carry, own):
        before, total = carry
        found, total = _run(jaxpr, consts, [*fixed, *before, *own], probe, total)
        return (found[:carried], total), found[carried:]

    (last, total), stacked = lax.scan(
        body,
        (list(first), total),
        list(inputs[given + carried :]),
        length=params["length"],
        reverse=params["reverse"],
    )
    return [*last, *stacked], total


def _while(params, inputs, probe, total):
    number = params["cond_nconsts"]
    fixed = inputs[number : number + params["body_nconsts"]]
    condition, (body, consts) = params["cond_jaxpr"], _opened(params["body_jaxpr"])

    def turn(carry):
        return _run(body, consts, [*fixed, *carry[0]], probe, carry[1])

    def goes_on(carry):
        return jaxpr_as_fun(condition)(*inputs[:number], *carry[0])[0]

    start = list(inputs[number + params["body_nconsts"] :]), total
    return lax.while_loop(goes_on, turn, start)


def _cond(params, inputs, probe, total):
    def taken(branch):
        jaxpr, consts = _opened(branch)
        return lambda total, *args: _run(jaxpr, consts, args, probe, total)

    number, *args = inputs
    return lax.switch(number, [taken(branch) for branch in params["branches"]], total, *args)


_CONTROL = {primitives.scan_p: _scan, primitives.while_p: _while, primitives.cond_p: _cond}
