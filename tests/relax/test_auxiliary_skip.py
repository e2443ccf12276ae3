"""A skip beside the candidates: what it adds where, and what reads no more of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dnas
from dnas.contracts import check_relaxation
from dnas.relax import auxiliary_skip, gumbel_hard, softmax

CHOICES = dnas.SPACES["nasbench201"].choices["cell"]
ARCH = {"ops": jax.random.normal(jax.random.key(0), CHOICES.shape)}
KEY = jax.random.key(1)


@pytest.mark.parametrize("inner", [softmax(), gumbel_hard()], ids=["softmax", "gumbel_hard"])
def test_it_keeps_the_laws_of_relaxations(inner):
    check_relaxation(auxiliary_skip(inner, 0.5), CHOICES)


@pytest.mark.parametrize("inner", [softmax(), gumbel_hard()], ids=["softmax", "gumbel_hard"])
def test_the_mix_of_the_skip_is_raised_and_everything_else_is_that_of_the_relaxation(inner):
    plain = inner.sample(KEY, ARCH, CHOICES, jnp.asarray(3))
    weight = optax.linear_schedule(1.0, 0.0, 10)
    raised = auxiliary_skip(inner, weight).sample(KEY, ARCH, CHOICES, jnp.asarray(3))
    expected = np.zeros(CHOICES.shape)
    expected[:, CHOICES.options.index("skip_connect")] = 0.7
    np.testing.assert_allclose(raised - plain, expected, atol=1e-6)


def test_without_a_weight_it_is_the_relaxation_to_the_last_bit_and_so_is_what_is_read():
    plain = softmax().sample(KEY, ARCH, CHOICES, jnp.asarray(0))
    none = auxiliary_skip(softmax(), 0.0).sample(KEY, ARCH, CHOICES, jnp.asarray(0))
    np.testing.assert_array_equal(none, plain)
    np.testing.assert_array_equal(auxiliary_skip(softmax(), 0.9).read(ARCH, CHOICES), plain)


def test_the_auxiliary_skip_has_no_gradient():
    def last(weight):
        relaxation = auxiliary_skip(softmax(), weight)
        sample = lambda arch: relaxation.sample(KEY, arch, CHOICES, jnp.asarray(0))  # noqa: E731
        return jax.grad(lambda arch: (sample(arch) * jnp.arange(5.0)).sum())(ARCH)["ops"]

    np.testing.assert_allclose(last(0.0), last(1.0), atol=1e-7)


def test_choices_without_a_skip_on_every_row_are_refused():
    choices = dnas.SPACES["s1"].choices["normal"]
    with pytest.raises(ValueError, match="needs the op 'skip_connect' among the candidates"):
        auxiliary_skip(softmax(), 1.0).sample(KEY, {"ops": jnp.zeros(choices.shape)}, choices, KEY)
