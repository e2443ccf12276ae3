"""Random architectures, none searched."""

import jax

from dnas.bilevel import darts_optimizer
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training
from dnas.selection import random_genotype
from dnas.space import SearchSpace

_NO_EPOCHS = {family: {"epochs": 0} for family in ("darts", "nasbench201", "chain", "recurrent")}


@published("random cells, none searched", "https://arxiv.org/abs/1902.07638", settings=_NO_EPOCHS)
def random(space: SearchSpace, training: Training) -> Method:
    """Returns the method that trains nothing and takes a uniformly drawn genotype, which the seed
    decides. What every search has to beat."""
    del space
    key = jax.random.key(training.seed)
    return Method(
        optimizer=lambda epochs, steps_per_epoch: darts_optimizer(1, 1),  # takes no step
        select=lambda space, mix: random_genotype(key, space),
    )
