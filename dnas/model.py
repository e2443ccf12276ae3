"""What a network is, whatever it reads: one type for supernets and for final networks."""

from collections.abc import Callable
from typing import NamedTuple

from dnas.base import Array, Key, PyTree


class Outputs(NamedTuple):
    """What a network computes."""

    logits: Array  # [B, num_classes]; of a text [B, T, V], for the token after each
    auxiliary: Array | None = None  # [B, num_classes], of an auxiliary head, in training only
    hidden: Array | None = None  # [B, T, H], the state after each token


class Tokens(NamedTuple):
    """A piece of a text for every member of a batch: the inputs of networks that read tokens."""

    tokens: Array  # [B, T] int32
    hidden: Array | None = (
        None  # [B, H], what the tokens before have left; None where a text begins
    )


class Model(NamedTuple):
    """A network as a pair of pure functions: a supernet, or the network of one genotype.

    `init(key, inputs)` returns variables, with the weights under "params". `inputs` are images
    [B, H, W, C], or `Tokens`.

    `apply(variables, mix, inputs, key=None, train=False, drop_path=0.0)` returns (`Outputs`,
    variables). `mix` {kind: [E, O]} weighs the ops of a supernet; the network of a genotype has {}.
    With train=True what is random in training, such as dropout and drop path at the rate
    `drop_path`, is drawn from key, norms use the statistics of the batch, and the variables that
    come back hold their new running averages. With train=False nothing is drawn and the variables
    come back unchanged.
    """

    init: Callable[[Key, PyTree], PyTree]
    apply: Callable[..., tuple[Outputs, PyTree]]
