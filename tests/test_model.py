"""Supernets and final networks are one type, whatever they read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.model import Model, Outputs, Tokens

IMAGES = jnp.zeros((2, 32, 32, 3))
TEXT = Tokens(jnp.zeros((2, 3), jnp.int32))
RECURRENT = dnas.spaces.recurrent_space(num_nodes=2)


@pytest.mark.parametrize("name", ["darts", "nasbench201", "fbnet", "recurrent"])
def test_one_call_runs_the_supernet_and_the_network_of_every_kind_of_space(name):
    space = dnas.SPACES[name]
    inputs = IMAGES if space.inputs == "images" else TEXT
    genotype = dnas.random_genotype(jax.random.key(0), space)
    sizes = dict(channels=8, num_cells=space.num_cells, num_classes=5)
    for model, mix in (
        (space.supernet(**sizes), dnas.one_hot_mix(space, genotype)),
        (space.network(genotype, **sizes), {}),
    ):
        assert isinstance(model, Model)
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
        outputs, same = jax.eval_shape(model.apply, variables, mix, inputs)
        assert isinstance(outputs, Outputs) and outputs.logits.shape[-1] == 5
        assert (outputs.hidden is None) == (space.inputs == "images")
        assert jax.tree.structure(same) == jax.tree.structure(variables)


def test_a_text_begins_with_a_state_of_zeros():
    model = RECURRENT.supernet(channels=4, num_classes=7)
    mix = {"recurrent": jnp.full((3, 5), 0.2)}
    variables = model.init(jax.random.key(0), TEXT)
    begun, given = (
        model.apply(variables, mix, TEXT._replace(hidden=hidden))[0]
        for hidden in (None, jnp.zeros((2, 4)))
    )
    jax.tree.map(np.testing.assert_array_equal, begun, given)
