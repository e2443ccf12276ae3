"""PC-DARTS."""

import jax
import pytest
from published_values import DARTS, settings_of

import dnas
from dnas.methods import pc_darts

# methods.md 2; train_search.py and train.py of yuhuixu1993/PC-DARTS
IN_DARTS = DARTS | dict(
    batch_size=256,
    learning_rate=0.1,
    min_learning_rate=0.0,
    arch_learning_rate=6e-4,
    warmup=15 / 50,
    partial_channels=4,
    learn_edges=True,
)
# 201-space/train_search.py of xiangning-chen/DrNAS with --k 4
IN_NASBENCH201 = DARTS | dict(epochs=100, partial_channels=4, learn_edges=False)


@pytest.mark.parametrize(
    ("space", "expected"), [("darts", IN_DARTS), ("nasbench201", IN_NASBENCH201)]
)
def test_settings_are_the_published_ones(space, expected):
    assert settings_of(pc_darts, space, expected) == expected
    assert pc_darts.retraining == {"darts": {"drop_path": 0.3}}


@pytest.mark.parametrize(("learn_edges", "parts"), [(True, {"ops", "edges"}), (False, {"ops"})])
def test_edges_have_weights_if_they_shall(learn_edges, parts):
    space = dnas.SPACES["darts"]
    method = pc_darts(space, steps_per_epoch=2, learn_edges=learn_edges)
    arch = method.relaxation.init(jax.random.key(0), space.choices["normal"])
    assert set(arch) == parts
