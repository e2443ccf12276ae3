"""SNAS."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS, DARTS_ON_TEXTS, TINY, settings_of, task_of

import dnas
from dnas.methods import snas

OWN = dict(
    temperature=1.0,
    temperature_end=0.03,
    arch_init_scale=0.01,
    search_drop_path=0.0,
    keep_all=True,
    single_level=True,
    arch_clip=10.0,
)
TABLE = {
    # methods.md 3.2; SNAS/train_search.py of SNAS-Series and its command for eight cells
    "darts": DARTS | OWN | dict(epochs=150, search_drop_path=0.3),
    # 201-space/train_search.py of xiangning-chen/DrNAS with --method snas
    "nasbench201": DARTS
    | OWN
    | dict(
        epochs=100,
        temperature=10.0,
        temperature_end=1.0,
        arch_init_scale=1e-3,
        single_level=False,
        arch_clip=None,
    ),
    "fbnet": DARTS | OWN,
    "recurrent": DARTS_ON_TEXTS | OWN | dict(keep_all=False),
}


@pytest.mark.parametrize("space", TABLE)
def test_settings_are_the_published_ones(space):
    assert settings_of(snas, space, TABLE[space]) == TABLE[space]


def test_none_is_chosen_where_it_is_the_strongest():
    space = dnas.SPACES["darts"]
    mix = {kind: np.eye(8)[np.arange(14) % 8] for kind in space.cells}  # none on edges 0 and 8
    genotype = snas(space, steps_per_epoch=2).select(space, mix)
    for edges in genotype.cells.values():
        assert len(edges) == 14
        assert [row for row, edge in enumerate(edges) if edge.op == "none"] == [0, 8]


def test_an_edge_is_dropped_as_a_whole_for_single_images_from_the_first_step_on():
    space = dnas.SPACES["darts"]
    relaxation = snas(space, steps_per_epoch=2, batch_size=500).relaxation
    arch, choices = {"ops": jnp.zeros((14, 8))}, space.choices["normal"]
    mix = relaxation.sample(jax.random.key(0), arch, choices, jnp.zeros((), jnp.int32))
    sums = np.asarray(mix.sum(1))  # [E, B]
    dropped = sums == 0
    np.testing.assert_allclose(sums[~dropped], 1 / 0.7, rtol=1e-5)
    assert abs(dropped.mean() - 0.3) < 0.03 and 0 < dropped.mean(0).max() < 1
    assert (np.asarray(mix)[:, :, 0][~dropped[:, 0]] > 0).all()


def test_weights_and_arch_learn_from_all_images_together():
    """16 images in batches of 4; on two levels each has half of them."""
    space, task = TINY["darts"], task_of("darts")
    for single_level, steps in ((True, 4), (False, 2)):
        method = snas.for_task(space, task, batch_size=4, single_level=single_level)
        assert method.single_level == single_level
        assert method.training.steps_per_epoch == steps
