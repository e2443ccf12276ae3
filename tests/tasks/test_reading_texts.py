"""A text is read as tokens of a vocabulary that its part for training decides."""

import collections
import math

import numpy as np
import pytest

from dnas import tasks
from dnas.tasks.reading import (
    END,
    UNKNOWN,
    Text,
    check_tokens,
    read_text,
    unigram_perplexity,
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


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([0, 1, 2**33], r"tokens lie in 0\.\.4, .*got 0\.\.8589934592"),
        ([0, 5], r"got 0\.\.5"),
        ([-1, 2], r"got -1\.\.2"),
        ([0.0, 1.0], "whole numbers in one row, got float64"),
        ([[0, 1]], r"in one row, got int64 \[1, 2\]"),
    ],
)
def test_tokens_outside_of_the_vocabulary_are_refused(tokens, reason):
    """As int32, 2^33 would be the token 0."""
    good = np.array([0, 4, 1])
    vocabulary = tuple("abcde")
    for wrong in (
        lambda: unigram_perplexity(tokens, good, 5),
        lambda: tasks.text(Text(good, np.array(tokens), good, vocabulary), window=1),
    ):
        with pytest.raises(ValueError, match=reason):
            wrong()


def test_tokens_of_any_width_are_read_as_int32():
    for dtype in (np.uint8, np.int64):
        tokens = check_tokens(np.array([0, 4, 1], dtype), 5)
        assert tokens.dtype == np.int32 and tokens.tolist() == [0, 4, 1]
