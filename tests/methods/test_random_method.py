"""Random architectures, none searched."""

import numpy as np
import pytest
from small_searches import SMALL, SMALL_201, small_search

import dnas
from dnas.methods import random


@pytest.mark.parametrize("seed", [0, 1])
def test_it_takes_no_step_and_its_seed_decides_the_genotype(seed):
    result = small_search("random", epochs=0, seed=seed)
    assert int(result.state.step) == 0 and result.history == []
    method = random(SMALL, steps_per_epoch=2, seed=seed)
    assert method.select(SMALL, result.mix) == result.genotype


@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_seeds_draw_different_cells(space):
    mix = {kind: np.zeros(own.shape, np.float32) for kind, own in space.choices.items()}
    drawn = {random(space, steps_per_epoch=2, seed=seed).select(space, mix) for seed in range(8)}
    assert len(drawn) > 1
    for genotype in drawn:
        dnas.check_genotype(space, genotype)
