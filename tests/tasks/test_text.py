"""A text is read window by window, and every token but the first is scored once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.model import Model, Outputs, Tokens
from dnas.tasks.reading import unigram_perplexity
from dnas.tasks.text import (
    Window,
    epoch_windows,
    make_perplexity,
    repeated_windows,
    streams,
    window_at,
    window_loss,
)


@pytest.mark.parametrize(("size", "batch_size", "window"), [(31, 3, 5), (100, 7, 4), (12, 1, 11)])
def test_streams_are_consecutive_pieces_that_overlap_by_their_last_target(size, batch_size, window):
    found = streams(np.arange(size), batch_size, window)
    length = (size - 1) // batch_size
    assert found.shape == (batch_size, length + 1)
    assert found[:, :-1].ravel().tolist() == list(range(batch_size * length))
    assert (found[:, 1:] == found[:, :-1] + 1).all()


def test_too_short_a_stream_is_refused():
    with pytest.raises(
        ValueError, match="20 tokens in a batch of 4 streams leave 4 for each, fewer than the 5"
    ):
        streams(np.arange(20), 4, 5)


@pytest.mark.parametrize("length", [35, 36, 104])
def test_windows_of_an_epoch_follow_each_other_from_a_place_that_the_epoch_decides(length):
    firsts = set()
    for epoch in range(40):
        places = epoch_windows(0, epoch, length, 35)
        assert (np.diff(places.start) == 35).all() and len(places.start) == length // 35
        assert 0 <= places.start[0] and places.start[-1] + 35 <= length
        assert places.fresh.tolist() == [True] + [False] * (len(places.start) - 1)
        np.testing.assert_array_equal(places.start, epoch_windows(0, epoch, length, 35).start)
        firsts.add(int(places.start[0]))
    assert len(firsts) > min(length % 35, 10) and max(firsts) <= length % 35


def test_repeated_windows_go_on_over_epochs_and_are_fresh_at_the_start_of_the_text():
    both = [repeated_windows(epoch, 32, 10, 4) for epoch in range(3)]
    assert np.concatenate([places.start for places in both]).tolist() == [0, 10, 20] * 4
    assert np.concatenate([places.fresh for places in both]).tolist() == [True, False, False] * 4


def test_a_window_has_the_targets_after_its_tokens_and_a_fresh_one_no_past():
    stream, before = jnp.arange(40).reshape(2, 20), jnp.ones((2, 3))
    for fresh in (True, False):
        window = window_at(
            jax.random.key(0), stream, jnp.asarray(4), jnp.asarray(fresh), before, 5, 0.1
        )
        tokens, hidden = window.inputs
        np.testing.assert_array_equal(tokens[1], np.arange(24, 29))
        np.testing.assert_array_equal(window.targets, tokens + 1)
        assert bool(hidden.any()) != fresh


def test_loss_is_the_cross_entropy_plus_the_weighed_change_of_the_state():
    logits, states = jnp.zeros((2, 3, 4)), jnp.arange(12.0).reshape(2, 3, 2)
    window = Window(Tokens(jnp.zeros((2, 3), int)), jnp.ones((2, 3), int), slowness=0.5)
    loss, metrics = window_loss(Outputs(logits, hidden=states), window)
    assert float(metrics["loss"]) == pytest.approx(math.log(4))
    assert float(loss) == pytest.approx(math.log(4) + 0.5 * 4)  # every element changes by 2
    np.testing.assert_array_equal(metrics["carried"], states[:, -1])
    short = Outputs(logits[:, :1], hidden=states[:, :1])
    assert np.isfinite(window_loss(short, window._replace(targets=window.targets[:, :1]))[0])


def unigram_network(shares):
    """A model that knows shares only; its state is of no use."""

    def apply(variables, mix, inputs):
        weights, shape = variables["params"], inputs.tokens.shape
        logits = jnp.broadcast_to(weights, (*shape, len(weights)))
        return Outputs(logits, hidden=jnp.zeros((*shape, 1))), variables

    return jnp.log(shares), Model(None, apply)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("window", [1, 7, 50])
def test_perplexity_counts_every_token_but_the_first_once(batch_size, window):
    random = np.random.default_rng(1)
    train, test = random.integers(0, 6, 200), random.integers(0, 6, 41)
    weights, model = unigram_network((np.bincount(train, minlength=6) + 1) / 206)
    found = make_perplexity(model, test, batch_size=batch_size, window=window)({"params": weights})
    assert found == pytest.approx(unigram_perplexity(train, test, 6), rel=1e-5)


def test_perplexity_carries_the_state_from_window_to_window():
    """A model that is sure of the right token after 10 tokens of the past, and has no idea
    before."""

    def apply(variables, mix, inputs):
        tokens, hidden = inputs
        before = jnp.zeros((len(tokens), 1)) if hidden is None else hidden
        count = before + jnp.arange(1, tokens.shape[1] + 1)
        right = jax.nn.one_hot((tokens + 1) % 8, 8)
        logits = variables["params"] * 100 * right * (count > 10)[..., None]
        return Outputs(logits, hidden=count[..., None]), variables

    measure = make_perplexity(Model(None, apply), np.arange(31) % 8, batch_size=1, window=4)
    assert measure({"params": jnp.ones(())}) == pytest.approx(8 ** (10 / 30), rel=1e-5)
