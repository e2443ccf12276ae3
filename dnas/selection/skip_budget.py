"""The rule of P-DARTS: no more than so many skip connections. Section 3.3,
https://arxiv.org/abs/1904.12760."""

import math

import numpy as np

from dnas.base import Mix
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.selection.default import default_selection
from dnas.selection.selection import Selection, checked_rows
from dnas.space import SearchSpace, picked_of


@checked
def skip_budget(
    budget: int = 2,
    *,
    selection: Selection = default_selection,
    kind: str = "normal",
    op: str = "skip_connect",
) -> Selection:
    """Returns a selection under which a cell of one kind carries an op at most `budget` times.

    While it is chosen more often, it is struck out where it was chosen with the least weight (on a
    tie, on the later edge) and the genotype derived again. Each time the edge may turn to its next
    op, or the node to another edge.

    Args:
      budget: M in the paper.
      selection: how genotypes are derived, that of the space unless given.
      kind, op: what is counted where.

    Raises:
      ValueError: if the budget is negative; on selection if the space has no such kind or op, if
        `selection` refuses the mix, or if it goes on choosing the op where it has been struck out,
        because it has nothing else to choose.

    Example:
      >>> import dnas, numpy as np
      >>> space, rows = dnas.SPACES["darts"], np.ones((14, 8))
      >>> rows[:, 3] = 2.0
      >>> mix = {kind: rows for kind in space.cells}
      >>> (
      ...     dnas.top_edges()(space, mix).count("skip_connect"),
      ...     skip_budget()(space, mix).count("skip_connect"),
      ... )
      ({'normal': 8, 'reduce': 8}, {'normal': 2, 'reduce': 8})
    """
    if budget < 0:
        raise ValueError(f"the budget is a number of edges, at least 0, got {budget}")

    def select(space: SearchSpace, mix: Mix) -> Genotype:
        choices = space.choices.get(kind)
        if choices is None or op not in choices.options:
            options = {name: own.options for name, own in space.choices.items()}
            raise ValueError(
                f"the space {space.name!r} has no {op!r} in a cell of kind {kind!r}; its cells have"
                f" {options}"
            )
        rows, column = np.array(checked_rows(space, kind, mix)), choices.options.index(op)
        while True:
            genotype = selection(space, {**mix, kind: rows})
            picked = picked_of(space, genotype)[kind]
            chosen = [row for row, own in picked if own == column]
            if len(chosen) <= budget:
                return genotype
            weakest = min(sorted(chosen, reverse=True), key=lambda edge: rows[edge, column])
            if rows[weakest, column] == -math.inf:
                raise ValueError(
                    f"cell {kind!r} cannot do with {budget} {op}: edge {choices.rows[weakest]} has"
                    " no other op to choose; raise the budget"
                )
            # Not zero, as the paper has it: other ops of the edge may have no weight either, and
            #   win only against less.
            rows[weakest, column] = -math.inf

    return select
