"""Final networks as ONNX."""

import itertools
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Array, PyTree
from dnas.export.standard import image_batch, network_logits, standard_ops
from dnas.model import Model, Tokens


def to_onnx(
    network: Model,
    variables: PyTree,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int = 1,
    opset: int = 21,
):
    """Returns the trained network as an `onnx.ModelProto`, images [B, H, W, C] -> logits [B,
    num_classes], both float32.

    It computes what `network.apply(variables, {}, images)` does: norms use their running
    averages, and are folded into the convolutions before them. Written by jax2onnx,
    https://github.com/enpasos/jax2onnx; `onnx.save(model, path)` keeps it.

    Args:
      variables: of the network, weights under "params"; they become constants of the model.
      image_shape: (H, W, C); images are normalised as in training, which is not part of the model.
      batch_size: B, fixed.

    Raises:
      ValueError: for sizes below 1.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    return function_to_onnx(
        network_logits(network, variables), image_batch(image_shape, batch_size), opset=opset
    )


def function_to_onnx(function, x: Any, *, opset: int = 21):
    """Returns a function of one array as an `onnx.ModelProto`; what it closes over becomes
    constants.

    Args:
      x: an array or shape that it is called with.

    Raises:
      ValueError: if the function computes nothing.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    if jaxpr.outvars[0] in jaxpr.invars:
        raise ValueError("the function returns its input as it is: there is nothing to export")
    return _with_strided_pools(_converted(function, {"images": x}, ["logits"], opset))


def language_model_to_onnx(
    network: Model,
    variables: PyTree,
    num_tokens: int,
    *,
    batch_size: int = 1,
    opset: int = 21,
):
    """Returns a trained language model as an `onnx.ModelProto`: (tokens [B, T], hidden [B, H]) ->
    (logits [B, T, V], states).

    `tokens` are int32 and may be any part of a text; `hidden` is what the tokens before left: zeros
    at the start, then the last of the `states` [B, T, H] that come back beside the logits. With
    num_tokens=1 that writes text word by word.

    Args:
      variables: of the network; they become constants of the model.
      num_tokens, batch_size: T and B, fixed.

    Raises:
      ValueError: for sizes below 1.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    if min(num_tokens, batch_size) < 1:
        raise ValueError(
            f"a text has at least one token and comes at least once, got {num_tokens} and"
            f" {batch_size}"
        )

    def read(tokens: Array, hidden: Array) -> tuple[Array, Array]:
        outputs, _ = network.apply(variables, {}, Tokens(tokens, hidden))
        assert outputs.hidden is not None  # of a network that reads tokens
        return outputs.logits, outputs.hidden

    tokens: Any = jax.ShapeDtypeStruct((batch_size, num_tokens), jnp.int32)
    states = jax.eval_shape(network.apply, variables, {}, Tokens(tokens))[0].hidden
    hidden = jax.ShapeDtypeStruct((batch_size, states.shape[-1]), states.dtype)
    inputs = {"tokens": tokens, "hidden": hidden}
    return _converted(read, inputs, ["logits", "states"], opset)


def _converted(function, inputs: dict[str, Any], outputs: list[str], opset: int):
    try:
        from jax2onnx import to_onnx as convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: export to ONNX needs the extra packages: pip install 'dnas[export]'"
        ) from None
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs.values()]
    return convert(
        standard_ops(function, *shapes),
        shapes,
        opset=opset,
        input_names=list(inputs),
        output_names=outputs,
    )


def _with_strided_pools(model):
    """The model in which pooling at every position, of which every second is kept, is pooling with
    a stride.

    `standard_ops` has it so because jax2onnx pads strided windows as TensorFlow does. A slice is
    more than work done for nothing: it is not a thing that ONNX Runtime can do in the layout of its
    convolutions.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    shapes = {
        info.name: [side.dim_value for side in info.type.tensor_type.shape.dim]
        for info in graph.value_info
    }
    outputs, slices, changed = {output.name for output in graph.output}, [], set()
    for transpose in [node for node in graph.node if node.op_type == "Transpose"]:
        pool, kept = maker.get(transpose.input[0]), readers[transpose.output[0]]
        if (
            pool is None
            or pool.op_type not in ("MaxPool", "AveragePool")
            or len(readers[pool.output[0]]) > 1
        ):
            continue
        # Several edges may keep what one pooling has computed.
        found = [name for node in kept for name in node.output]
        if not found or outputs & {transpose.output[0], *found[1:]}:
            continue
        strides = {
            (
                _stride_of(node, constants, shapes.get(node.input[0]))
                if node.op_type == "Slice"
                else None
            )
            for node in kept
        }
        options = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in pool.attribute
        }
        window = (
            list(options["kernel_shape"]),
            list(options.get("strides", (1, 1))),
            options.get("auto_pad"),
        )
        if len(strides) != 1 or None in strides or window != ([3, 3], [1, 1], b"SAME_UPPER"):
            continue
        options |= {"strides": [*strides, *strides], "pads": [1, 1, 1, 1], "auto_pad": "NOTSET"}
        del pool.attribute[:]
        pool.attribute.extend(helper.make_attribute(name, value) for name, value in options.items())
        changed |= {transpose.output[0], pool.output[0], *found[1:]}
        for node in itertools.chain(*(readers[name] for name in found)):
            node.input[:] = [found[0] if name in found else name for name in node.input]
        transpose.output[0] = found[0]
        slices += kept
    for node in slices:
        graph.node.remove(node)
    infos = [info for info in graph.value_info if info.name not in changed]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    # Of a network without a path all is constant.
    read = outputs | {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def _stride_of(node, constants, shape: list[int] | None) -> int | None:
    """The stride of a slice that keeps every so many rows and columns of all of [B, H, W, C], or
    None of others."""
    parts = [constants.get(name) for name in node.input[1:]]
    if shape is None or len(parts) != 4 or any(part is None for part in parts):
        return None
    starts, ends, axes, steps = parts
    step = dict(zip(axes.tolist(), steps.tolist(), strict=True))
    whole = (
        not starts.any()
        and (ends >= np.array(shape)[axes]).all()
        and step.get(1) == step.get(2)
        and step.get(0, 1) == step.get(3, 1) == 1
    )
    return step.get(1) if whole and step.get(1, 1) > 1 else None
