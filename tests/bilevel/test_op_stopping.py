"""Operation-level early stopping on two candidates whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dnas import bilevel

INTERVAL = 3
# two edges each, kernels [E, inputs, outputs]
WEIGHTS = {"a": jnp.ones((2, 3, 4)), "b": jnp.ones((2, 3, 4)), "stem": jnp.ones((3, 4))}
ARCH = {"cell": {"ops": jnp.zeros((1, 2))}}


def names(weights):
    return {name: "" if name == "stem" else name for name in weights}


def objective(directions):
    """The loss whose gradient of the weights is `directions`."""

    def loss(weights, arch):
        moved = jax.tree.map(lambda array, way: (array * way).sum(), weights, directions)
        total = sum(jax.tree.leaves(moved)) + (arch["cell"]["ops"] ** 2).sum()
        return total, {"loss": total}

    return loss


def directions(seed):
    random = np.random.default_rng(seed)
    return {name: jnp.asarray(random.normal(size=own.shape)) for name, own in WEIGHTS.items()}


TRAIN = directions(0)
OTHER = directions(1)


def run(train, valid, *, steps=INTERVAL, make=None, **options):
    options = {"interval": INTERVAL, "clip": None} | options
    make = bilevel.op_stopping if make is None else make
    optimizer = make(optax.sgd(0.1), optax.sgd(0.1), names, **options)
    inner, outer = objective(train), objective(valid)
    weights, arch, seen = WEIGHTS, ARCH, []
    state = optimizer.init(weights, arch)
    for _ in range(steps):
        weight_updates, arch_updates, state, metrics = optimizer.update(
            inner, outer, state, weights, arch
        )
        weights, arch = optax.apply_updates((weights, arch), (weight_updates, arch_updates))
        seen.append((weights, arch, metrics))
    return state, seen


@pytest.mark.parametrize("added", [True, False])
def test_ops_whose_gradients_agree_are_never_stopped(added):
    state, seen = run(TRAIN, TRAIN, steps=4 * INTERVAL, threshold=0.99, added=added)
    assert not any(rows.any() for rows in state.stopped.values())
    assert all(metrics["stopped"] == 0 for _, _, metrics in seen)


@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
def test_an_op_whose_gradients_disagree_stays_from_the_next_step_on_and_the_others_move(order):
    against = {**TRAIN, "a": TRAIN["a"].at[1].multiply(-3.0)}  # the second edge of the first op
    state, seen = run(TRAIN, against, steps=2 * INTERVAL, order=order)
    np.testing.assert_array_equal(state.stopped["a"], [False, True])
    assert not state.stopped["b"].any()
    stopped, last = seen[INTERVAL - 1][0], seen[-1][0]
    np.testing.assert_array_equal(stopped["a"][1], last["a"][1])
    for moved in (last["a"][0] - stopped["a"][0], last["b"] - stopped["b"], last["stem"] - 1.0):
        assert (moved != 0).all()
    assert [float(metrics["stopped"]) for _, _, metrics in seen] == [0, 0, 0.25, 0.25, 0.25, 0.25]


def test_a_stopped_op_stays_so():
    optimizer = bilevel.op_stopping(
        optax.sgd(0.1), optax.sgd(0.1), names, interval=1, clip=None, added=False
    )
    state = optimizer.init(WEIGHTS, ARCH)
    against = jax.tree.map(jnp.negative, TRAIN)
    for valid in (against, TRAIN, TRAIN):
        state = optimizer.update(objective(TRAIN), objective(valid), state, WEIGHTS, ARCH)[2]
        assert all(rows.all() for rows in state.stopped.values())


@pytest.mark.parametrize("added", [True, False])
def test_alignment_is_the_mean_cosine_along_output_channels(added):
    """torch.cosine_similarity(..., dim=0).mean() of a kernel [outputs, inputs], as released."""
    state, _ = run(TRAIN, OTHER, steps=2, added=added)
    for name in ("a", "b"):
        for edge in range(2):
            train = np.asarray(TRAIN[name][edge]).T
            valid = np.asarray(OTHER[name][edge]).T + added * train
            cosine = (train * valid).sum(0)
            cosine /= np.linalg.norm(train, axis=0) * np.linalg.norm(valid, axis=0)
            found = state.alignment[name][edge]
            np.testing.assert_allclose(found, 2 * cosine.mean(), rtol=1e-4)


def test_the_sum_has_the_clipped_gradient_of_the_training_batch():
    """A clipped training gradient counts for less beside that of the validation batch."""
    tight, _ = run(TRAIN, OTHER, steps=1, clip=1e-3)
    alone, _ = run(TRAIN, OTHER, steps=1, added=False)
    for name in ("a", "b"):
        np.testing.assert_allclose(tight.alignment[name], alone.alignment[name], atol=1e-2)


@pytest.mark.parametrize("order", ["arch_first", "weights_first"])
def test_without_stops_it_is_alternation(order):
    def alternating(weights, arch, names, **options):
        del names
        return bilevel.alternating(bilevel.first_order(), weights, arch, order=options["order"])

    _, one = run(TRAIN, OTHER, steps=5, threshold=-1.0, order=order)
    _, other = run(TRAIN, OTHER, steps=5, make=alternating, order=order)
    for left, right in zip(one, other, strict=True):
        jax.tree.map(np.testing.assert_array_equal, left[:2], right[:2])
        assert set(left[2]) == {*right[2], "stopped"}


def test_it_runs_compiled():
    optimizer = bilevel.op_stopping(optax.sgd(0.1), optax.sgd(0.1), names, interval=1)
    state = optimizer.init(WEIGHTS, ARCH)
    update = jax.jit(lambda *args: optimizer.update(objective(TRAIN), objective(OTHER), *args))
    following = update(state, WEIGHTS, ARCH)[2]
    assert jax.tree.structure(following) == jax.tree.structure(state)


@pytest.mark.parametrize(
    "options", [{"threshold": 2.0}, {"interval": 0}, {"order": "both"}], ids=lambda own: str(own)
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="interval a number|does not exist"):
        bilevel.op_stopping(optax.sgd(0.1), optax.sgd(0.1), names, **options)
