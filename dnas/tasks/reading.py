"""A text as numbers: its tokens, its vocabulary, and a model that knows their shares only."""

import collections
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dnas.checks import checked, one_of

UNKNOWN, END = "<unk>", "<eos>"


def _words(text: str) -> list[str]:
    lines = (re.findall(r"<unk>|\w+|[^\w\s]", line.lower()) for line in text.splitlines())
    return [word for line in lines if line for word in (*line, END)]


# How a text falls into tokens, by name. Penn Treebank and WikiText come as tokens between blanks,
# every line a sentence.
TOKENS = {
    "words": _words,  # in lower case, marks apart, lines without a word left out
    "blanks": lambda text: [word for line in text.splitlines() for word in (*line.split(), END)],
    "characters": list,
}


class Text(NamedTuple):
    """A text in three parts that follow each other, and its vocabulary."""

    train: np.ndarray  # [N] int32, places in the vocabulary
    valid: np.ndarray
    test: np.ndarray
    vocabulary: tuple[str, ...]  # the tokens, the first of which stands for all others


@checked
def read_text(
    text: str | Sequence[str],
    *,
    tokens: str = "words",
    min_count: int = 2,
    max_tokens: int = 10_000,
    parts: tuple[float, float] = (0.8, 0.1),
) -> Text:
    """Returns a text as numbers, its vocabulary made from the part for training, the most frequent
    tokens first.

    Args:
      text: one text, that is cut into consecutive parts; or three: for training, for validation,
        for the test.
      tokens: a name in `TOKENS`.
      min_count, max_tokens: a token that is rarer, or not among the most frequent, is read as
        "<unk>".
      parts: of one text, for training and for validation; the rest is for the test.

    Raises:
      ValueError: for texts or numbers from which no three parts can be made.

    Example:
      >>> text = read_text("the cat sat on the mat. the cat ran. the cat sat.", parts=(0.5, 0.25))
      >>> [text.vocabulary[token] for token in text.train]
      ['the', '<unk>', '<unk>', '<unk>', 'the', '<unk>', '<unk>', 'the']
    """
    one_of(TOKENS, tokens=tokens)
    if min_count < 1 or max_tokens < 2:
        raise ValueError(
            f"min_count is at least 1 and max_tokens at least 2, got {min_count} and {max_tokens}"
        )
    if isinstance(text, str):
        if not (min(parts) > 0 and sum(parts) < 1):
            raise ValueError(
                "parts are the shares of training and validation, positive and together below 1,"
                f" got {parts}"
            )
        words = TOKENS[tokens](text)
        ends = [round(len(words) * parts[0]), round(len(words) * sum(parts))]
        pieces = [words[: ends[0]], words[ends[0] : ends[1]], words[ends[1] :]]
    else:
        pieces = [TOKENS[tokens](piece) for piece in text]
    if len(pieces) != 3 or min(map(len, pieces)) < 2:
        raise ValueError(
            "three parts of at least 2 tokens are needed, for training, validation and test; got "
            f"{list(map(len, pieces))} tokens"
        )
    counts = collections.Counter(pieces[0])
    del counts[UNKNOWN]
    frequent = [word for word, count in counts.most_common(max_tokens - 1) if count >= min_count]
    vocabulary = (UNKNOWN, *frequent)
    number = {word: place for place, word in enumerate(vocabulary)}
    train, valid, test = (
        np.array([number.get(word, 0) for word in piece], np.int32) for piece in pieces
    )
    return Text(train, valid, test, vocabulary)


def check_tokens(tokens: Any, num_tokens: int) -> np.ndarray:
    """Returns tokens [N] as int32.

    Raises:
      ValueError: unless they are whole numbers from 0 to below num_tokens, in one row.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"tokens are whole numbers in one row, got {tokens.dtype} {list(tokens.shape)}; read a"
            " text by dnas.read_text"
        )
    # Before they become int32, in which 2^32 would be 0.
    if tokens.size and (tokens.min() < 0 or tokens.max() >= num_tokens):
        raise ValueError(
            f"tokens lie in 0..{num_tokens - 1}, places in the vocabulary, got"
            f" {tokens.min()}..{tokens.max()}"
        )
    return tokens.astype(np.int32)


@checked
def unigram_perplexity(train, test, num_tokens: int, *, smoothing: float = 1.0) -> float:
    """Returns the perplexity on `test` of the model that predicts every token with its share of
    `train`, whatever came before.

    The first token is not predicted, as by a language model. With no smoothing and train = test[1:]
    it is exp of the entropy.

    Args:
      smoothing: added to the count of each of the `num_tokens` tokens of the vocabulary.

    Raises:
      ValueError: for tokens that are not in the vocabulary, and a test with none to predict.

    Example:
      >>> round(unigram_perplexity([0, 1, 2, 3], [9, 0, 1, 2, 3], 4, smoothing=0.0), 6)
      4.0
    """
    test = np.asarray(test)
    if test.ndim != 1 or len(test) < 2:
        raise ValueError(
            "a test is at least two tokens in one row, of which the first is not predicted; got an"
            f" array {list(test.shape)}"
        )
    counts = collections.Counter(check_tokens(train, num_tokens).tolist())
    predicted = check_tokens(test[1:], num_tokens).tolist()
    smoothing = float(smoothing)  # a whole number may be too large for an array
    total = counts.total() + smoothing * num_tokens
    if smoothing < 0 or total == 0:
        raise ValueError(
            f"smoothing is a number from 0 on, and more where nothing is known; got {smoothing}"
            f" and {counts.total()} tokens of training"
        )
    shares = np.array([counts[token] + smoothing for token in predicted]) / total
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.exp(-np.log(shares).mean()))
