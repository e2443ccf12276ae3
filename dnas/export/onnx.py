"""Final networks as ONNX."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax

from dnas.base import PyTree
from dnas.checks import checked
from dnas.export.functions import (
    check_computes,
    image_batch,
    language_model_step,
    network_logits,
)
from dnas.export.standard import standard_ops
from dnas.model import Model


@checked
def to_onnx(
    network: Model,
    variables: PyTree,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int | None = None,
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
      batch_size: B; None where the model is to read any number of images.

    Raises:
      ValueError: for sizes below 1.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    return function_to_onnx(
        network_logits(network, variables), image_batch(image_shape, batch_size), opset=opset
    )


@checked
def function_to_onnx(function: Callable[[Any], Any], x: Any, *, opset: int = 21):
    """Returns a function of one array as an `onnx.ModelProto`; what it closes over becomes
    constants.

    Args:
      x: an array or shape that it is called with.

    Raises:
      ValueError: if the function computes nothing.
      ModuleNotFoundError: without the packages of the extra `export`.
    """
    check_computes(function, x)
    return _with_strided_pools(_converted(function, {"images": x}, ["logits"], opset))


@checked
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
    function, inputs = language_model_step(network, variables, num_tokens, batch_size)
    return _converted(function, inputs, ["logits", "states"], opset)


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
        info.name: [side.dim_param or side.dim_value for side in info.type.tensor_type.shape.dim]
        for info in (*graph.value_info, *graph.output)
    }
    outputs, slices, changed = {output.name for output in graph.output}, [], set()
    for transpose in [node for node in graph.node if node.op_type == "Transpose"]:
        pool, reading = maker.get(transpose.input[0]), readers[transpose.output[0]]
        # Shapes are asked for the number of images, which a stride leaves as it is.
        kept = [node for node in reading if node.op_type != "Shape"]
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
            (_stride_of(node, constants, shapes) if node.op_type == "Slice" else None)
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
        same = {transpose.output[0], *found}
        for node in itertools.chain(reading, *(readers[name] for name in found)):
            node.input[:] = [found[0] if name in same else name for name in node.input]
        transpose.output[0] = found[0]
        slices += kept
    for node in slices:
        graph.node.remove(node)
    _drop_unread(graph)
    infos = [info for info in graph.value_info if info.name not in changed]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    return model


def _drop_unread(graph) -> None:
    """Removes nodes and constants that no output depends on, such as what computed the ends of
    slices, or all of a network without a path."""
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _stride_of(node, constants, shapes) -> int | None:
    """The stride of a slice that keeps every so many rows and columns of all of [B, H, W, C], or
    None of others."""
    before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0])
    if len(node.input) != 5 or len(before) != 4:
        return None
    # Its ends are computed where the number of images is open; the shapes say how much is kept.
    starts, _, axes, steps = [constants.get(name) for name in node.input[1:]]
    if starts is None or axes is None or steps is None or starts.any():
        return None
    step_of = dict(zip(axes.tolist(), steps.tolist(), strict=True))
    strides = [step_of.get(axis, 1) for axis in range(4)]
    stride = strides[1]
    every = [before[0], -(-before[1] // stride), -(-before[2] // stride), before[3]]
    return stride if stride > 1 and strides == [1, stride, stride, 1] and after == every else None
