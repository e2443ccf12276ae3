"""Which cells are the same network: equal computation graphs after identities are merged and dead
branches dropped."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp

from dnas.base import Array
from dnas.choices import NOTHING
from dnas.graph import CellSpec
from dnas.hw_loss.liveness import present_ops

# What a runtime makes of zeros. "run": ops on them run. "fold": whatever is zero is dropped, sums
# included. "fold_ops": an op on a missing tensor is dropped, but a sum of missing tensors is a
# tensor, and ops on it run.
ZEROS = ("run", "fold_ops", "fold")
MOST_CELLS = 2**17


def graph_text(spec: CellSpec, choices: Sequence[str], *, zeros: str = "fold") -> str:
    """Returns the computation graph of a discrete cell as text, the same for all cells that compute
    the same.

    Sums and concatenations are sorted, an identity is what it is given, a sum of sums is one sum,
    and what does not reach the output is not in it. NAS-Bench-201,
    https://arxiv.org/abs/2001.00326, tells 6,466 of its 15,625 cells apart in much this way, by the
    rule "fold_ops" without merging sums of sums.

    Args:
      choices: the op of every edge; "none" for an absent one.
      zeros: one of `ZEROS`, what happens to what no input reaches.

    Example:
      >>> spec = CellSpec(1, 2, ((0, 1), (1, 2)), ("none", "skip_connect", "conv"), concat=(2,))
      >>> graph_text(spec, ["conv", "skip_connect"]), graph_text(spec, ["skip_connect", "conv"])
      ('conv(0)', 'conv(0)')
    """
    tensors = [
        [str(node)] for node in range(spec.num_inputs)
    ]  # the terms of the sum that a node is
    for node in spec.nodes:
        terms = []
        for number in spec.incoming(node):
            op, source = choices[number], tensors[spec.edges[number][0]]
            missing = (
                not any(source) if zeros == "fold" else source in ([], [""]) and zeros == "fold_ops"
            )
            if op in NOTHING or missing:
                terms.append("")
            elif op == "skip_connect":
                terms += source
            else:
                terms.append(f"{op}({'+'.join(source)})")
        tensors.append(sorted(term for term in terms if term or zeros != "fold"))
    return ",".join(sorted("+".join(tensors[node]) for node in spec.concat))


def live_choices(spec: CellSpec, choices: Sequence[str]) -> tuple[str, ...]:
    """Returns the op of every edge of a discrete cell, "none" also where it is not on a path from
    an input to the output.

    Example:
      >>> spec = CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv"), concat=(2,))
      >>> live_choices(spec, ["none", "conv", "conv"])
      ('none', 'none', 'conv')
    """
    present = [edge for edge, op in zip(spec.edges, choices, strict=True) if op != "none"]
    reached, used = set(range(spec.num_inputs)), set(spec.concat)
    for source, target in sorted(present):
        if source in reached:
            reached.add(target)
    for source, target in sorted(present, reverse=True):
        if target in used:
            used.add(source)
    ends = zip(spec.edges, choices, strict=True)
    return tuple(
        op if source in reached and target in used else "none" for (source, target), op in ends
    )


def all_cells(spec: CellSpec) -> list[tuple[str, ...]]:
    """Returns the choices of every discrete cell, the last edge's changing fastest, in the order of
    `cell_probabilities`.

    Raises:
      ValueError: for more than 2^17 of them; `count_cells` tells.
    """
    if count_cells(spec) > MOST_CELLS:
        raise ValueError(
            f"{count_cells(spec)} cells are too many to go through; at most {MOST_CELLS} are listed"
        )
    return list(
        itertools.product(
            ("none", *(spec.ops[number] for number in present_ops(spec))), repeat=len(spec.edges)
        )
    )


def count_cells(spec: CellSpec) -> int:
    """Returns the number of discrete cells: an edge is absent or has one op."""
    return (1 + len(present_ops(spec))) ** len(spec.edges)


def average_over_cells(spec: CellSpec, values: Array, mix: Array) -> Array:
    """Returns the exact expectation of values, [cells] in the order of `all_cells`, over
    independent choices.

    Multilinear in mix, and at a one-hot mix the value of that cell. The cost is about one
    multiply-add a cell.

    Example:
      >>> spec = CellSpec(1, 1, ((0, 1),), ("none", "conv"), concat=(1,))
      >>> float(average_over_cells(spec, jnp.array([1.0, 3.0]), jnp.array([[0.5, 0.5]])))
      2.0
    """
    kept = mix[:, jnp.array(present_ops(spec), int)]
    rows = jnp.concatenate([1 - kept.sum(axis=-1, keepdims=True), kept], axis=-1)
    for row in rows:
        values = row @ values.reshape(len(row), -1)
    return values.reshape(())
