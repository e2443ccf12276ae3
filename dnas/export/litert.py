"""Final networks for LiteRT (once TensorFlow Lite), without TensorFlow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives

from dnas.base import PyTree
from dnas.checks import checked
from dnas.export.functions import (
    check_computes,
    image_batch,
    language_model_step,
    network_logits,
)
from dnas.export.stablehlo import function_to_stablehlo
from dnas.export.standard import standard_ops
from dnas.model import Model

# Without what it asks for: its xdsl, not needed here, wants a typing-extensions that is too
# old for others.
INSTALL_CONVERTER = "pip install --no-deps litert-converter==0.5.0"


@checked
def to_litert(
    network: Model,
    variables: PyTree,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int = 1,
) -> bytes:
    """Returns the trained network as a LiteRT model, the content of a .tflite file: images [B, H,
    W, C] -> logits [B, num_classes], both float32.

    It computes what `network.apply(variables, {}, images)` does: norms use their running averages,
    and are folded into the convolutions before them. Written from StableHLO by litert-converter,
    https://github.com/google-ai-edge/LiteRT; `path.write_bytes(model)` keeps it, and phones,
    microcontrollers and `run_litert` run it. The names of its signature are "images" and "logits".

    Args:
      variables: of the network, weights under "params"; they become constants of the model.
      image_shape: (H, W, C); images are normalised as in training, which is not part of the model.
      batch_size: B, fixed.

    Raises:
      ValueError: for sizes below 1, and for ops that LiteRT cannot compute, which is `noise` of the
        space s4: it draws numbers.
      ModuleNotFoundError: without litert-converter; says how it is installed.
    """
    return function_to_litert(
        network_logits(network, variables), image_batch(image_shape, batch_size)
    )


@checked
def function_to_litert(function: Callable[[Any], Any], x: Any) -> bytes:
    """Returns a function of one array as a LiteRT model; what it closes over becomes constants.

    Args:
      x: an array or shape that it is called with.

    Raises:
      ValueError: if the function computes nothing, or what LiteRT cannot.
      ModuleNotFoundError: without litert-converter; says how it is installed.
    """
    check_computes(function, x)
    return _converted(function, {"images": x}, ["logits"])


@checked
def language_model_to_litert(
    network: Model, variables: PyTree, num_tokens: int, *, batch_size: int = 1
) -> bytes:
    """Returns a trained language model as a LiteRT model: (tokens [B, T], hidden [B, H]) ->
    (logits [B, T, V], states [B, T, H]), see `language_model_to_onnx`.

    Args:
      num_tokens: T; the cell is written out for each of them, so that many make a large model.

    Raises:
      ValueError: for sizes below 1.
      ModuleNotFoundError: without litert-converter; says how it is installed.
    """
    function, inputs = language_model_step(network, variables, num_tokens, batch_size)
    written_out = _without_loops(function, *inputs.values())
    return _converted(written_out, inputs, ["logits", "states"])


def _converted(
    function: Callable[..., Any], inputs: Mapping[str, Any], outputs: Sequence[str]
) -> bytes:
    try:
        from litert_converter.mlir import ir, passmanager
        from litert_converter.mlir._mlir_libs import converter_api_ext as converter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: export to LiteRT needs its converter, which exists for Linux on x86-64 and"
            f" macOS on arm64: {INSTALL_CONVERTER}"
        ) from None
    text = function_to_stablehlo(function, *inputs.values())
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(text)
        converter.set_signature(
            module.operation,
            signature_name="serving_default",
            input_names=list(inputs),
            output_names=list(outputs),
        )
        try:
            converter.run_convert_to_tfl_passes(
                module, passmanager.PassManager(), converter.ConvertToTFLConfig()
            )
        except ValueError as error:
            raise ValueError(
                "LiteRT has no op for something that the function computes, such as numbers that"
                f" the op noise draws: {str(error).splitlines()[0]}"
            ) from None
        return converter.export_flatbuffer_to_bytes(module.operation)


def _without_loops(function: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
    """The function with its scans written out: a loop that reads an array from outside of it, as
    over the tokens of a text, is one that litert-converter cannot write."""
    closed = jax.make_jaxpr(standard_ops(function, *inputs))(*inputs)
    equations = [
        (
            # More at once than there are: no loop is left.
            equation.replace(params=equation.params | {"unroll": equation.params["length"] + 1})
            if equation.primitive is primitives.scan_p
            else equation
        )
        for equation in closed.jaxpr.eqns
    ]
    written_out = core.jaxpr_as_fun(closed.replace(jaxpr=closed.jaxpr.replace(eqns=equations)))
    return lambda *arrays: tuple(written_out(*arrays))
