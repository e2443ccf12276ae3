"""Options of one program."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest


def run_with_flags(code, flags):
    settings = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=settings
    ).stdout


def instructions():
    """The instruction sets of the CPU, where the system tells."""
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


@pytest.mark.skipif("avx512f" not in instructions(), reason="the CPU has no vectors of 512 bits")
@pytest.mark.parametrize(("channels", "lanes"), [(16, 16), (4, 8)])
def test_vectors_are_as_wide_as_channels_fill(tmp_path, channels, lanes):
    code = f"""
import jax, jax.numpy as jnp
from dnas.running.compiling import compile_step
kernel, x = jnp.ones((3, 3, 1, {channels})), jnp.ones((64, 1024))
compile_step(lambda kernel, x: jnp.maximum(x, 0.0) * 1.25, kernel, x)
"""
    asked_for = " --xla_dump_emitter_re=.*" if jax.__version_info__ >= (0, 11) else ""
    run_with_flags(code, f"--xla_dump_to={tmp_path}{asked_for}")
    programs = [path.read_text() for path in tmp_path.glob("*lambda*ir-with-opt.ll")]
    products = [
        found for text in programs for found in re.findall(r"fmul (?:\w+ )*<(\d+) x float> %", text)
    ]
    assert products and {int(number) for number in products} == {lanes}
