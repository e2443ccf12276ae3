"""A language model trains, turns to averaged weights as its recipe says, and is scored with its
best ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear import assert_same

import dnas
from dnas import tasks
from dnas.model import Model, Outputs
from dnas.retrain import best_average, retrain, text_sgd
from dnas.spaces import NO_DROPOUT, Dropout, recurrent_space
from dnas.tasks.reading import Text

SPACE = recurrent_space(num_nodes=2)
GENOTYPE = dnas.Genotype("recurrent", {"recurrent": [(0, 1, "tanh"), (1, 2, "relu")]})
TOKENS = np.random.default_rng(0).integers(0, 6, 200).astype(np.int32)
TEXT = Text(TOKENS, TOKENS[:70], TOKENS[70:120], tuple("abcdef"))


def train(text=TEXT, dropout=Dropout(), **changes):  # noqa: B008
    network = SPACE.network(GENOTYPE, channels=4, num_classes=len(text.vocabulary), dropout=dropout)
    return trained(network, text, **dict(epochs=2) | changes)


def trained(network, text, *, patience=5, window=5, resume=lambda state: state, **changes):
    settings = dict(batch_size=3, optimizer=text_sgd, hooks=dnas.QUIET._replace(resume=resume))
    task, keep = tasks.text(text, window=window), best_average(patience)
    return retrain(network, task, keep=keep, **settings | changes)


@functools.cache
def whole():
    return train()


@pytest.mark.parametrize(
    "stop", [1, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (13, 20))]
)
def test_resumed_training_equals_the_uninterrupted_one(stop):
    part = train(max_steps=stop)
    assert int(part.state.step) == stop
    resumed = train(resume=lambda state: part.state)
    assert_same(resumed.state, whole().state)
    assert resumed.test_perplexity == whole().test_perplexity


def test_a_run_that_is_over_is_scored_again():
    again = train(resume=lambda state: whole().state)
    assert again.history == [] and again.test_perplexity == whole().test_perplexity


def test_a_text_that_repeats_itself_is_known_in_the_end_and_far_below_its_unigram_model():
    letters = np.tile(np.arange(6, dtype=np.int32), 60)
    text = Text(letters, letters[:100], letters[:100], tuple("abcdef"))
    result = train(text, NO_DROPOUT, epochs=8)
    assert dnas.unigram_perplexity(letters, letters[:100], 6) == pytest.approx(6.0, rel=1e-2)
    assert result.test_perplexity < 1.5
    assert result.valid_perplexity == pytest.approx(
        min(row["valid_perplexity"] for row in result.history), rel=1e-5
    )


def falling_behind():
    """A model of one weight, which each step moves by 1 and which makes the right token, 0, ever
    less likely."""

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        del mix, key, train, drop_path
        logits = jnp.stack([-0.01 * variables["params"]["w"], jnp.zeros(())])
        shape = inputs.tokens.shape
        outputs = Outputs(jnp.broadcast_to(logits, (*shape, 2)), hidden=jnp.zeros((*shape, 1)))
        return outputs, variables

    return Model(lambda key, inputs: {"params": {"w": jnp.zeros(())}}, apply)


def upwards(epochs, steps_per_epoch):
    del epochs, steps_per_epoch
    one = lambda updates, state, params=None: (jax.tree.map(jnp.ones_like, updates), state)  # noqa: E731
    return optax.GradientTransformation(lambda params: optax.EmptyState(), one)


@pytest.mark.parametrize(("epochs", "averaged"), [(4, None), (5, 13), (6, 26)])
def test_weights_are_averaged_once_the_validation_loss_is_no_longer_better_than_before_the_patience(
    epochs, averaged
):
    zeros = np.zeros(200, np.int32)
    text = Text(zeros, zeros[:70], zeros[:50], ("a", "b"))
    result = trained(falling_behind(), text, epochs=epochs, optimizer=upwards, patience=2)
    # 13 steps an epoch. The loss of epoch 4 is the first to be compared: it is above that of epoch
    # 1.
    weights, state, steps = result.state.variables["params"], result.state.kept, 13 * epochs
    assert float(weights["w"]) == steps
    if averaged is None:
        assert int(state.averaged) == 0 and float(state.average["w"]) == steps
    else:
        assert int(state.averaged) == averaged
        assert float(state.average["w"]) == pytest.approx(
            np.mean(np.arange(13 * 4 + 1, steps + 1)), rel=1e-6
        )
    assert float(result.variables["params"]["w"]) == 13, "the best epoch is the first"
    assert result.valid_perplexity == result.history[0]["valid_perplexity"]
    assert result.test_perplexity == pytest.approx(1 + np.exp(0.13), rel=1e-5)


def test_an_early_end_within_an_epoch_is_scored():
    result = train(max_steps=3)
    assert result.history[0]["valid_perplexity"] == pytest.approx(result.valid_perplexity)
    assert np.isinf(np.asarray(result.state.kept.scores)).all()
    assert_same(result.variables, result.state.variables)


def test_text_sgd_clips_and_has_no_momentum():
    transformation = text_sgd(1, 1, weight_decay=0.0)
    weights = {"a": jnp.array([3.0, 4.0])}
    state = transformation.init(weights)
    for gradient, expected in (([3.0, 4.0], [-3.0, -4.0]), ([0.03, 0.04], [-0.6, -0.8])):
        updates, state = transformation.update({"a": jnp.array(gradient)}, state, weights)
        np.testing.assert_allclose(updates["a"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(batch_size=50), "lower the batch size"),
        (dict(patience=0), "patience"),
        (dict(window=0), "window"),
    ],
)
def test_what_cannot_work_is_refused_before_any_step(changes, reason):
    with pytest.raises(ValueError, match=reason):
        train(**changes)
