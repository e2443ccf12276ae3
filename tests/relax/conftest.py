"""A small cell, and the mix of a relaxation on it, for the tests of all relaxations."""

import jax
import jax.numpy as jnp
import pytest

from dnas.space import CellSpec

SPEC = CellSpec(
    num_inputs=2,
    num_nodes=2,
    edges=((0, 2), (1, 2), (0, 3), (2, 3)),
    ops=("none", "a", "b"),
    concat=(2, 3),
)


@pytest.fixture
def spec():
    return SPEC


@pytest.fixture
def mix_of():
    def mix_of(relaxation, arch, seed=0, step=0, spec=SPEC):
        arch = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), arch)
        return relaxation.sample(jax.random.key(seed), arch, spec, jnp.asarray(step))

    return mix_of
