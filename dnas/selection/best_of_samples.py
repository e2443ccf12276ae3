"""Sampled architectures, compared with the weights of the supernet: how SETN and random search with
weight sharing end.

SETN, https://arxiv.org/abs/1910.05733; RSPS, https://arxiv.org/abs/1902.07638.
"""

from collections.abc import Callable

import jax
import numpy as np

from dnas.base import Key, Mix
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.selection.default import default_selection
from dnas.selection.selection import Selection, checked_rows
from dnas.space import SearchSpace, one_hot_mix, picked_of


@checked
def sample_genotype(
    key: Key, space: SearchSpace, mix: Mix, *, selection: Selection = default_selection
) -> Genotype:
    """Returns a genotype drawn with the weights of the mix as probabilities: the selection of mix /
    (exponential noise).

    The largest of weights divided by independent exponential variables is each with a probability
    in proportion to its weight. So under `argmax_edges` every edge draws its op from its row,
    independently of the others. Under `top_edges` it draws among the ops but `none`, and a node
    draws its k edges without replacement, in proportion to what their rows hold besides `none`;
    edge and op are independent, and a uniform mix gives the distribution of `random_genotype`. What
    has no weight is drawn only where a node has nothing else.

    Args:
      selection: a rule that depends on the order of weights only, that of the space unless given.

    Raises:
      ValueError: if the mix does not fit the space, holds a NaN or a negative weight.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    noisy = {}
    for kind, choices in space.choices.items():
        rows = np.array(checked_rows(space, kind, mix))
        allowed = choices.allowed
        if rows[allowed].min() < 0:
            raise ValueError(
                f"weights are read as probabilities, but the mix of cell {kind!r} holds"
                f" {rows[allowed].min()}"
            )
        noisy[kind] = np.where(allowed, rows, 0.0) / np.maximum(
            random.exponential(size=rows.shape), np.finfo(float).tiny
        )
    return selection(space, noisy)


@checked
def best_of_samples(
    key: Key,
    space: SearchSpace,
    mix: Mix,
    accuracy: Callable[[Mix], float],
    *,
    num_samples: int = 100,
    selection: Selection = default_selection,
    quick_accuracy: Callable[[Mix], float] | None = None,
    finalists: int = 10,
) -> tuple[Genotype, float]:
    """Returns the best of sampled genotypes under the weights of the supernet, and its accuracy
    there.

    With a uniform mix this is the end of random search with weight sharing (RSPS), with a learnt
    one that of SETN.

    Args:
      mix: {kind: [E, O]}, probabilities of the ops, see `sample_genotype`.
      accuracy: of the supernet under a mix, which is a `one_hot_mix` here. A genotype that is drawn
        again is not run again.
      num_samples: how many are drawn; the first of the best wins.
      selection: that of the space unless given.
      quick_accuracy: such as that on a few batches, by which only the best `finalists` are left for
        `accuracy`; all of them unless given. RSPS leaves 10 of 1,000.

    Raises:
      ValueError: if num_samples or finalists is below 1 or the mix cannot be sampled from.

    Example:
      >>> import dnas, jax, numpy as np
      >>> space = dnas.SPACES["darts"]
      >>> uniform = {kind: np.full((14, 8), 1 / 8) for kind in space.cells}
      >>> skips = lambda mix: float(mix["normal"][:, 3].sum())
      >>> genotype, most = best_of_samples(jax.random.key(0), space, uniform, skips)
      >>> genotype.count("skip_connect")["normal"] == most > 2
      True
    """
    if min(num_samples, finalists) < 1:
        raise ValueError(
            f"at least one genotype is sampled and left, got num_samples = {num_samples} and"
            f" finalists = {finalists}"
        )
    drawn = {}
    for part in jax.random.split(key, num_samples):
        genotype = sample_genotype(part, space, mix, selection=selection)
        # Edges that are listed in another order make no other genotype.
        picked = picked_of(space, genotype)
        drawn.setdefault(
            frozenset((kind, *own) for kind in picked for own in picked[kind]), genotype
        )
    mixes = [(genotype, one_hot_mix(space, genotype)) for genotype in drawn.values()]
    if quick_accuracy is not None:
        quick = [float(quick_accuracy(one_hot)) for _, one_hot in mixes]
        best = np.argsort(-np.asarray(quick), kind="stable")[:finalists]
        mixes = [mixes[number] for number in best]
    scored = [(genotype, float(accuracy(one_hot))) for genotype, one_hot in mixes]
    return max(scored, key=lambda pair: pair[1])
