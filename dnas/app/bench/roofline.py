"""What the machine can do, what a step asks of it, and how far apart the two are.

The machine: the rate of a large product of matrices and the bandwidth of a loop over an array that
  no cache holds. The
step: multiply-adds from `dnas.hw_loss.counts`, and bytes from the compiled program, counting for
every kernel what it reads and writes; a loop counts as often as it runs, a conditional as its
largest branch.
"""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
_FREE = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "constant",
    "iota",
    "after-all",
    "partition-id",
}
_LINE = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>.*?)"
    r" (?P<opcode>[a-z][a-z0-9\-]*)\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)


def machine(size: int = 2048, megabytes: int = 256) -> dict[str, float]:
    """Returns the measured rates of the device: "flops", 2 n^3 a product of float32 n x n, and
    "bytes", both a second."""
    x = jnp.ones((size, size), jnp.float32)
    y = jnp.ones((megabytes * 2**20 // 4,), jnp.float32)
    product, double = jax.jit(lambda x: x @ x), jax.jit(lambda y: y * 2)
    return {"flops": 2 * size**3 / _best(product, x), "bytes": 2 * y.nbytes / _best(double, y)}


def _best(function: Callable, x: jax.Array, times: int = 7) -> float:
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def program_bytes(text: str) -> int:
    """Returns the bytes that the kernels of a compiled program read and write, by the text of the
    program.

    A kernel that slices a larger array, or updates a slice of one, counts what it touches of it.

    Example:
      >>> program_bytes(jax.jit(lambda x: x * 2).lower(jnp.ones(1000)).compile().as_text())
      8000
    """
    computations: dict[str, list[re.Match]] = {}
    entry = current = ""
    for line in text.splitlines():
        head = re.match(r"^(ENTRY )?%([\w.\-]+) \(", line)
        if head:
            current = head.group(2)
            computations[current] = []
            entry = current if head.group(1) else entry
        elif current and (found := _LINE.match(line)):
            computations[current].append(found)
    known: dict[str, int] = {}

    def cost(name: str) -> int:
        if name not in known:
            sizes = {line["name"]: _size(line["shape"]) for line in computations[name]}
            known[name] = sum(line_cost(line, sizes) for line in computations[name])
        return known[name]

    def line_cost(line: re.Match, sizes: dict[str, int]) -> int:
        opcode, rest = line["opcode"], line["rest"]
        if opcode in _FREE:
            return 0
        if opcode == "while":
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', rest)
            (body,) = re.findall(r"body=%([\w.\-]+)", rest)
            return (int(trips.group(1)) if trips else 1) * cost(body)
        if opcode == "call":
            (called,) = re.findall(r"to_apply=%([\w.\-]+)", rest)
            return cost(called)
        if opcode == "conditional":
            lists = re.findall(r"branch_computations=\{([^}]*)\}", rest)
            branches = re.findall(r"%([\w.\-]+)", "".join(lists))
            branches += re.findall(r"(?:true|false)_computation=%([\w.\-]+)", rest)
            return max(map(cost, branches))
        operands = [sizes.get(name, 0) for name in re.findall(r"%([\w.\-]+)", line["operands"])]
        written = sizes[line["name"]]
        inside = opcode
        if called := re.search(r"calls=%([\w.\-]+)", rest):
            inside = " ".join(part["opcode"] for part in computations[called.group(1)])
        # In place: the array that is as large as the result is not touched.
        if "dynamic-update-slice" in inside:
            touched = [size for size in operands if size < written]
            return 2 * sum(touched)
        if "dynamic-slice" in inside:
            return written + sum(min(size, written) for size in operands)
        return written + sum(operands)

    return cost(entry)


def _size(shape: str) -> int:
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(
        _BYTES.get(kind, 0) * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in arrays
    )


def compare(row: dict[str, Any]) -> dict[str, float]:
    """Returns the rates of the machine, and of the row of `bench_step` the bound that each sets, in
    seconds."""
    rates = machine()
    return rates | {
        "gflop": row["flop"] / 1e9,
        "gigabytes": row["program_bytes"] / 1e9,
        "compute_s": row["flop"] / rates["flops"],
        "memory_s": row["program_bytes"] / rates["bytes"],
        "step_s": row["median_s"],
    }


def describe(found: dict[str, float]) -> list[str]:
    """Returns the comparison in words."""
    return [
        (
            f"machine: products of matrices {found['flops'] / 1e9:.0f} GFLOP/s, memory"
            f" {found['bytes'] / 1e9:.1f} GB/s"
        ),
        (
            f"step: {found['gflop']:.1f} GFLOP, at that rate {found['compute_s']:.3f} s; kernels"
            f" read and write {found['gigabytes']:.1f} GB, from memory {found['memory_s']:.3f} s;"
            f" measured {found['step_s']:.3f} s"
        ),
    ]
