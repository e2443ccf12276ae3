"""Every runtime runs what JAX runs, loads it again, and says what it is."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dnas import export

PACKAGES = {
    "jax": (),
    "onnxruntime": ("jax2onnx", "onnxruntime"),
    "litert": ("litert_converter", "ai_edge_litert"),
}


def runtime_of(name, threads=1):
    for package in PACKAGES.get(name, ()):
        pytest.importorskip(package, reason=f"the packages of {name} are not installed")
    return export.RUNTIMES[name](threads)


@pytest.mark.parametrize("name", export.RUNTIMES)
def test_a_runtime_runs_a_function_as_often_as_asked_and_loads_it_again(name):
    runtime = runtime_of(name)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    program = runtime.load(lambda x: jnp.maximum(x @ kernel, 0).sum((1, 2)), x)
    again = runtime.repeat(program)
    expected = np.maximum(x @ kernel, 0).sum((1, 2))
    # The input is still there at the second call.
    for own in (program, program, again):
        np.testing.assert_allclose(runtime.run(own), expected, rtol=1e-5)


@pytest.mark.parametrize("name", export.RUNTIMES)
def test_a_runtime_says_its_name_first(name):
    assert runtime_of(name).describe.split()[0] == name


@pytest.mark.parametrize("name", ["onnxruntime", "litert"])
def test_threads_are_part_of_what_a_runtime_says(name):
    assert runtime_of(name, 2).describe.endswith("cpu 2 threads")
    with pytest.raises(ValueError, match="at least one thread, got 0"):
        export.RUNTIMES[name](0)


def test_jax_has_no_setting_for_threads():
    with pytest.raises(ValueError, match="JAX decides by itself how many threads run"):
        export.RUNTIMES["jax"](2)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnxruntime", "onnxruntime", "export"), ("litert", "ai_edge_litert", "litert")],
)
def test_a_missing_package_is_said_with_its_extra(name, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'dnas\[{extra}\]'"):
        export.RUNTIMES[name](1)


def test_a_missing_converter_is_said_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_converter", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps litert-converter==0.5.0"):
        export.function_to_litert(lambda x: x + 1, np.zeros((1, 2), np.float32))
