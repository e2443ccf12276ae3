"""Which cells are the same network: equal computation graphs after identities are merged and dead
branches dropped."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from dnas.base import Array
from dnas.graph import CellSpec
from dnas.hw_loss.liveness import present_ops

# What a runtime makes of zeros. "run": ops on them run. "fold": whatever is zero is dropped, sums
# included. "fold_ops": an op on a missing tensor is dropped, but a sum of missing tensors is a
# tensor, and ops on it run.
ZEROS = ("run", "fold_ops", "fold")
MOST_CELLS = 2**17
IDENTITY = "skip_connect"

Cell = Sequence[str | None]  # the op of every edge of a discrete cell; None for an absent one


def is_absent(spec: CellSpec, op: str | None) -> bool:
    """Returns whether an edge with this op is as good as none."""
    return op is None or op in spec.nothing


def graph_text(spec: CellSpec, cell: Cell, *, zeros: str = "fold") -> str:
    """Returns the computation graph of a discrete cell as text, the same for all cells that compute
    the same.

    Sums and concatenations are sorted, an identity is what it is given, a sum of sums is one sum,
    and what does not reach the output is not in it. NAS-Bench-201,
    https://arxiv.org/abs/2001.00326, tells 6,466 of its 15,625 cells apart in much this way, by the
    rule "fold_ops" without merging sums of sums.

    Args:
      cell: the op of every edge; None, or an op that computes nothing, for an absent one.
      zeros: one of `ZEROS`, what happens to what no input reaches.

    Example:
      >>> spec = CellSpec(1, 2, ((0, 1), (1, 2)), ("none", "skip_connect", "conv"), concat=(2,))
      >>> graph_text(spec, ["conv", "skip_connect"]), graph_text(spec, ["skip_connect", "conv"])
      ('conv(0)', 'conv(0)')
    """
    # The terms of the sum that a node is.
    tensors = [[str(node)] for node in range(spec.num_inputs)]
    for node in spec.nodes:
        terms = []
        for number in spec.incoming(node):
            op, source = cell[number], tensors[spec.edges[number][0]]
            missing = (
                not any(source) if zeros == "fold" else source in ([], [""]) and zeros == "fold_ops"
            )
            if is_absent(spec, op) or missing:
                terms.append("")
            elif op == IDENTITY:
                terms += source
            else:
                terms.append(f"{op}({'+'.join(source)})")
        tensors.append(sorted(term for term in terms if term or zeros != "fold"))
    return ",".join(sorted("+".join(tensors[node]) for node in spec.concat))


def count_what_runs(spec: CellSpec, cell: Cell) -> Counter:
    """Returns what is counted of a discrete cell as it is built, what leads nowhere left out.

    Counted are ops, on data and on zeros; the ops of one kind on the longest path; nodes by the
    number of edges that run into them, additions, and edges that are absent; tensors that ops of
    one kind read, and those that several ops read; and ops by what made the tensor that they read:
    an input, a sum, or one op. An identity is neither a reader nor a maker.

    Example:
      >>> spec = CellSpec(1, 2, ((0, 1), (1, 2), (0, 2)), ("none", "conv", "pool"), concat=(2,))
      >>> found = count_what_runs(spec, ["none", "conv", "pool"])
      >>> found["op", "conv", "on zeros"], found["op", "pool", "on data"], found["additions"]
      (1, 1, 1)
    """
    rows = [row for row, op in enumerate(cell) if not is_absent(spec, op)]
    needed, fed = set(spec.concat), set(range(spec.num_inputs))
    for row in sorted(rows, key=lambda row: -spec.edges[row][1]):
        source, target = spec.edges[row]
        if target in needed:
            needed.add(source)
    runs = {row for row in rows if spec.edges[row][1] in needed}

    found: Counter[Any] = Counter({("node", "output", "on data"): 0})
    longest: dict[int, Counter] = {node: Counter() for node in fed}
    made_by = dict.fromkeys(fed, "an input")
    readers: dict[int, list[str | None]] = {}
    for node in (node for node in spec.nodes if node in needed):
        incoming = [row for row in spec.incoming(node) if row in runs]
        found["node", len(incoming)] += 1
        found["additions"] += max(len(incoming) - 1, 0)
        found["absent"] += len(spec.incoming(node)) - len(incoming)
        longest[node], made_by[node] = Counter(), "a sum"
        for row in incoming:
            op, source = cell[row], spec.edges[row][0]
            found["op", op, "on data" if source in fed else "on zeros"] += 1
            if source in fed:
                fed.add(node)
            longest[node] |= longest[source] + Counter([op])
            if len(incoming) == 1:
                made_by[node] = made_by[source] if op == IDENTITY else str(op)
            if op != IDENTITY:
                readers.setdefault(source, []).append(op)
                found["pair", made_by[source], op] += 1
    for ops in readers.values():
        found.update(("read by", op) for op in set(ops))
        found["read by several"] += len(ops) > 1
    for node in spec.concat:
        found["node", "output", "on data"] |= node in fed
        for op, length in longest[node].items():
            found["longest", op] = max(found["longest", op], length)
    return found


def all_cells(spec: CellSpec) -> list[Cell]:
    """Returns every discrete cell, the last edge's op changing fastest, in the order of
    `average_over_cells`.

    Raises:
      ValueError: for more than 2^17 of them; `count_cells` tells.
    """
    if count_cells(spec) > MOST_CELLS:
        raise ValueError(
            f"{count_cells(spec)} cells are too many to go through; at most {MOST_CELLS} are listed"
        )
    ops = (None, *(spec.ops[number] for number in present_ops(spec)))
    return list(itertools.product(ops, repeat=len(spec.edges)))


def count_cells(spec: CellSpec) -> int:
    """Returns the number of discrete cells: an edge is absent or has one op."""
    return (1 + len(present_ops(spec))) ** len(spec.edges)


def average_over_cells(spec: CellSpec, values: Array, mix: Array) -> Array:
    """Returns the exact expectation of values, [cells] in the order of `all_cells`, over
    independent edges.

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
