"""A small cell, and the mix of a relaxation on it, for the tests of all relaxations."""

import jax
import jax.numpy as jnp
import pytest

from dnas.graph import CellSpec

CHOICES = CellSpec(
    num_inputs=2,
    num_nodes=2,
    edges=((0, 2), (1, 2), (0, 3), (2, 3)),
    ops=("none", "a", "b"),
    concat=(2, 3),
).choices


@pytest.fixture
def choices():
    return CHOICES


@pytest.fixture
def mix_of():
    def mix_of(relaxation, arch, seed=0, step=0, choices=CHOICES):
        """arch, or no more than its logits [E, O]."""
        arch = arch if isinstance(arch, dict) else {"ops": arch}
        arch = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), arch)
        return relaxation.sample(jax.random.key(seed), arch, choices, jnp.asarray(step))

    return mix_of
