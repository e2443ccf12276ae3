"""Text becomes tokens without a loss, streams follow each other, and a unigram model is what its
name says."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnas.model import Model, Outputs
from dnas.tasks.language import make_perplexity, window_loss
from dnas.tasks.text import (
    END,
    UNKNOWN,
    Window,
    epoch_windows,
    read_text,
    repeated_windows,
    streams,
    unigram_perplexity,
    window_at,
)

TEXT = "The cat sat. The <unk> cat's mat!\n\n  \nA cat sat on the mat.\n" * 10


def words_of(text, part):
    return [text.vocabulary[token] for token in part]


def test_words_are_lower_case_with_marks_apart_and_ends_of_lines():
    text = read_text((TEXT, TEXT, TEXT))
    assert (
        words_of(text, text.valid)[:20]
        == "the cat sat . the <unk> cat ' s mat ! <eos> a cat sat on the mat . <eos>".split()
    )


def test_text_between_blanks_is_read_as_the_released_code_reads_penn_treebank():
    raw = " aer banknote N <unk> \n pierre <unk> N years old \n"
    text = read_text((raw, raw, raw), tokens="blanks", min_count=1)
    assert words_of(text, text.train) == [
        "aer",
        "banknote",
        "N",
        UNKNOWN,
        END,
        "pierre",
        UNKNOWN,
        "N",
        "years",
        "old",
        END,
    ]
    assert len(text.vocabulary) == len({*raw.split(), END})


def test_characters_join_to_the_text_itself():
    text = read_text(TEXT, tokens="characters", min_count=1)
    assert "".join(words_of(text, np.concatenate(text[:3]))) == TEXT


def test_parts_follow_each_other_and_leave_nothing_out():
    raw = " ".join(str(number) for number in range(100))
    text = read_text(raw, tokens="blanks", min_count=1, parts=(0.6, 0.3))
    assert [len(part) for part in text[:3]] == [61, 30, 10]  # 100 words and the end of the line
    assert words_of(text, text.train) == [str(number) for number in range(61)]
    assert set(words_of(text, text.valid)) == {UNKNOWN}, (
        "the vocabulary is that of the training part"
    )


@pytest.mark.parametrize(
    ("min_count", "max_tokens", "known"),
    [(1, 99, "abcd"), (2, 99, "abc"), (3, 99, "ab"), (1, 3, "ab")],
)
def test_rare_tokens_are_read_as_one(min_count, max_tokens, known):
    raw = "aaaabbbccd"
    text = read_text(
        (raw, raw, raw), tokens="characters", min_count=min_count, max_tokens=max_tokens
    )
    assert text.vocabulary == (UNKNOWN, *known)
    assert words_of(text, text.train) == [letter if letter in known else UNKNOWN for letter in raw]


REFUSED = {
    "empty": (("",), {}, "at least 2 tokens"),
    "short": (("one two",), {}, "at least 2 tokens"),
    "two parts": ((["a b c", "a b c"],), {}, "three parts"),
    "parts": (("a b c d e f",), {"parts": (0.9, 0.2)}, "together below 1"),
    "tokens": (("a b c d e f",), {"tokens": "syllables"}, "choose from: words, blanks, characters"),
    "min_count": (("a b c d e f",), {"min_count": 0}, "at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_refused(name):
    given, options, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        read_text(*given, **options)


def test_perplexity_of_a_unigram_model_is_exp_of_the_empirical_cross_entropy():
    random = np.random.default_rng(0)
    train, test = random.integers(0, 5, 300), random.integers(0, 5, 60)
    shares = {
        token: (count + 1) / 305 for token, count in collections.Counter(train.tolist()).items()
    }
    expected = math.exp(-sum(math.log(shares[token]) for token in test[1:].tolist()) / 59)
    assert unigram_perplexity(train, test, 5) == pytest.approx(expected)
    counts = np.bincount(test[1:]) / 59
    entropy = -(counts * np.log(counts)).sum()
    assert unigram_perplexity(test[1:], test, 5, smoothing=0.0) == pytest.approx(math.exp(entropy))


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
    stream, hidden = jnp.arange(40).reshape(2, 20), jnp.ones((2, 3))
    for fresh in (True, False):
        window = window_at(
            jax.random.key(0), stream, jnp.asarray(4), jnp.asarray(fresh), hidden, 5, 0.1
        )
        np.testing.assert_array_equal(window.tokens[1], np.arange(24, 29))
        np.testing.assert_array_equal(window.targets, window.tokens + 1)
        assert bool(window.hidden.any()) != fresh


def test_loss_is_the_cross_entropy_plus_the_weighed_change_of_the_state():
    logits, states = jnp.zeros((2, 3, 4)), jnp.arange(12.0).reshape(2, 3, 2)
    window = Window(
        jnp.zeros((2, 3), int), jnp.ones((2, 3), int), jnp.zeros((2, 2)), jax.random.key(0), 0.5
    )
    loss, metrics = window_loss(logits, states, window)
    assert float(metrics["loss"]) == pytest.approx(math.log(4))
    assert float(loss) == pytest.approx(math.log(4) + 0.5 * 4)  # every element changes by 2
    np.testing.assert_array_equal(metrics["hidden"], states[:, -1])
    assert np.isfinite(
        window_loss(logits[:, :1], states[:, :1], window._replace(targets=window.targets[:, :1]))[0]
    )


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
    found = make_perplexity(model, test, batch_size=batch_size, window=window)(weights)
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
    assert measure(jnp.ones(())) == pytest.approx(8 ** (10 / 30), rel=1e-5)
