"""Laws of every relaxation beside those of its contract, which tests/test_contracts.py checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.relax import RELAXATIONS, read_mix
from dnas.relax.relaxation import present, straight_through, value_at

KEY = jax.random.key(0)


@pytest.fixture(params=RELAXATIONS)
def relaxation(request):
    return RELAXATIONS[request.param]()


def test_arch_and_mix_are_functions_of_the_key(relaxation, choices):
    one, again, other = (relaxation.init(jax.random.key(seed), choices) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    # Some start from constants.
    random = any(leaf.max() > leaf.min() for leaf in jax.tree.leaves(one))
    assert random == any(
        (a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )
    np.testing.assert_array_equal(
        *(relaxation.sample(KEY, one, choices, jnp.asarray(0)) for _ in range(2))
    )


def test_sample_under_jit_and_vmap_over_seeds_equals_one_after_another(relaxation, choices):
    keys = jax.random.split(KEY, 3)
    archs = jax.vmap(lambda key: relaxation.init(key, choices))(keys)
    sample = jax.jit(jax.vmap(lambda key, arch, step: relaxation.sample(key, arch, choices, step)))
    together = sample(keys, archs, jnp.arange(3))
    for number, key in enumerate(keys):
        arch = jax.tree.map(lambda leaf, number=number: leaf[number], archs)
        alone = relaxation.sample(key, arch, choices, jnp.asarray(number))
        np.testing.assert_allclose(together[number], alone, rtol=1e-5, atol=1e-7)


def test_the_op_of_the_largest_logit_is_the_one_that_is_read(relaxation, choices):
    arch = relaxation.init(KEY, choices)
    # On the simplex, where one relaxation has its arch.
    logits = jax.nn.softmax(4 * jax.random.normal(KEY, (4, 3)))
    mix = read_mix(relaxation, {**arch, "ops": logits}, choices)
    np.testing.assert_array_equal(mix.argmax(1), logits.argmax(1))


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    values, surrogates = jax.random.normal(KEY, (2, 1000))
    np.testing.assert_array_equal(straight_through(values, surrogates), values)
    gradient = jax.grad(lambda v, s: straight_through(v**2, s**3).sum(), argnums=(0, 1))(
        values, surrogates
    )
    np.testing.assert_allclose(gradient, (np.zeros(1000), 3 * surrogates**2), rtol=1e-5)


def test_an_absent_logit_stays_absent_under_what_is_usually_added_to_it():
    assert present(jnp.asarray([-1e6, 0.0, 1e4])).all()
    assert not present(jnp.asarray([-1e9, -1e9 + 1e6, -2e9])).any()


def test_value_at_is_a_number_or_what_a_schedule_says():
    assert value_at(7, 0.5) == 0.5 and value_at(7, lambda step: step + 1) == 8
