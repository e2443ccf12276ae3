"""Trained networks as files for other runtimes, each checked against what JAX computes."""

import importlib.util
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import dnas
from dnas import export
from dnas.app.durable import write_file
from dnas.export.litert import INSTALL_CONVERTER

# Of an exported network from the trained one, as a share of the largest logit.
_LARGEST_DIFFERENCE = 1e-4


class Exporter(NamedTuple):
    """A file of another runtime: how networks are written to it, and how it is run."""

    file: str  # in the folder of a run
    packages: Mapping[str, str]  # that it takes, and how each is installed
    # (network, variables, (H, W, C)) -> content of the file, and the same of a language model that
    # reads one token at a time
    network: Callable[[dnas.Model, Any, tuple[int, int, int]], bytes]
    language_model: Callable[[dnas.Model, Any], bytes]
    load: Callable[[bytes], Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]]


def _onnx(network: dnas.Model, variables: Any, image_shape: tuple[int, int, int]) -> bytes:
    return export.to_onnx(network, variables, image_shape).SerializeToString()


def _onnx_of_text(network: dnas.Model, variables: Any) -> bytes:
    return export.language_model_to_onnx(network, variables, 1).SerializeToString()


def _litert_of_text(network: dnas.Model, variables: Any) -> bytes:
    return export.language_model_to_litert(network, variables, 1)


# By the setting that asks for it.
EXPORTERS = {
    "onnx": Exporter(
        file="network.onnx",
        packages=dict.fromkeys(("jax2onnx", "onnxruntime"), "pip install 'dnas[export]'"),
        network=_onnx,
        language_model=_onnx_of_text,
        load=export.load_onnx,
    ),
    "litert": Exporter(
        file="network.tflite",
        packages={
            "ai_edge_litert": "pip install 'dnas[litert]'",
            "litert_converter": INSTALL_CONVERTER,
        },
        network=export.to_litert,
        language_model=_litert_of_text,
        load=export.load_litert,
    ),
}


def asked_for(config: Any) -> dict[str, Exporter]:
    """Returns the exporters that the settings ask for."""
    return {name: own for name, own in EXPORTERS.items() if getattr(config, name)}


def check_packages(config: Any) -> None:
    """Raises ValueError, before any work, unless the packages that the settings need are there."""
    for name, exporter in asked_for(config).items():
        for package, install in exporter.packages.items():
            if importlib.util.find_spec(package) is None:
                raise ValueError(
                    f"--{name} needs the package {package}, which is not there: {install}"
                )


def write_network(
    path: pathlib.Path,
    exporter: Exporter,
    network: dnas.Model,
    variables: Any,
    image_shape: tuple[int, int, int],
) -> float:
    """Writes a trained network, and returns the largest difference of its logits from JAX's on
    random images, as a share of the largest logit.

    Raises:
      ValueError: if it is more than 1e-4: then the file is not written.
    """
    images = np.random.default_rng(0).normal(size=(1, *image_shape)).astype(np.float32)
    expected = jax.jit(lambda images: network.apply(variables, {}, images)[0].logits)(images)
    file = exporter.network(network, variables, image_shape)
    return _write_checked(path, exporter, file, {"images": images}, expected)


def write_language_model(
    path: pathlib.Path, exporter: Exporter, network: dnas.Model, variables: Any
) -> float:
    """Writes a trained language model that reads one token at a time, as `write_network` does a
    network on images."""
    random = np.random.default_rng(0)
    apply = jax.jit(
        lambda tokens, hidden: network.apply(variables, {}, dnas.Tokens(tokens, hidden))
    )
    start, _ = jax.eval_shape(apply, np.zeros((1, 1), np.int32), None)
    inputs = {
        "tokens": random.integers(0, start.logits.shape[-1], (1, 1)).astype(np.int32),
        "hidden": random.uniform(-1, 1, (1, start.hidden.shape[-1])).astype(np.float32),
    }
    file = exporter.language_model(network, variables)
    return _write_checked(path, exporter, file, inputs, apply(**inputs)[0].logits)


def _write_checked(
    path: pathlib.Path,
    exporter: Exporter,
    file: bytes,
    inputs: Mapping[str, np.ndarray],
    expected: jax.Array,
) -> float:
    found = exporter.load(file)(inputs)["logits"]
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise ValueError(
            f"the exported network differs from the trained one by {difference:.1e} of its largest"
            f" logit, so that {path.name} is not written"
        )
    write_file(path, file)
    return difference
