"""Final networks for other runtimes: ONNX, and StableHLO for whatever runs XLA programs."""

from dnas.export.onnx import function_to_onnx, language_model_to_onnx, to_onnx
from dnas.export.stablehlo import to_stablehlo
from dnas.export.standard import standard_ops

__all__ = [
    "function_to_onnx",
    "language_model_to_onnx",
    "standard_ops",
    "to_onnx",
    "to_stablehlo",
]
