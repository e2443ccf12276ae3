"""Final networks for other runtimes: ONNX, LiteRT, and StableHLO for whatever runs XLA programs;
and what runs them here."""

from dnas.export.litert import function_to_litert, language_model_to_litert, to_litert
from dnas.export.onnx import function_to_onnx, language_model_to_onnx, to_onnx
from dnas.export.runtimes import (
    RUNTIMES,
    litert_runtime,
    load_litert,
    load_onnx,
    onnx_runtime,
)
from dnas.export.stablehlo import function_to_stablehlo, to_stablehlo
from dnas.export.standard import standard_ops

__all__ = [
    "RUNTIMES",
    "function_to_litert",
    "function_to_onnx",
    "function_to_stablehlo",
    "language_model_to_litert",
    "language_model_to_onnx",
    "litert_runtime",
    "load_litert",
    "load_onnx",
    "onnx_runtime",
    "standard_ops",
    "to_litert",
    "to_onnx",
    "to_stablehlo",
]
