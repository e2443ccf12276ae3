"""A genotype drawn at random: the baseline of every search. https://arxiv.org/abs/1902.07638."""

import jax

from dnas.base import Key
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.selection.default import default_selection
from dnas.selection.selection import Selection
from dnas.space import SearchSpace


@checked
def random_genotype(
    key: Key, space: SearchSpace, select: Selection = default_selection
) -> Genotype:
    """Returns a genotype drawn at random: what `select` makes of independent random weights.

    With `top_edges` every pair of sources and every op but `none` is equally likely at each node:
    the random baseline of the space, https://arxiv.org/abs/1902.07638.
    """
    mix = {}
    keys = jax.random.split(key, len(space.choices))
    for (kind, choices), part in zip(space.choices.items(), keys, strict=True):
        mix[kind] = jax.random.uniform(part, choices.shape)
    return select(space, mix)
