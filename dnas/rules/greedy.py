"""Greedy decisions during the search: SGAS, https://arxiv.org/abs/1912.00195."""

from typing import NamedTuple

import numpy as np

from dnas.base import AnyArray
from dnas.checks import checked
from dnas.choices import Choices
from dnas.rules.decisions import decided_mix, drop_edge, keep_op
from dnas.rules.rule import Observed, Rule, Verdict, zero_mix
from dnas.space import SearchSpace


class GreedyState(NamedTuple):
    decided: dict[str, np.ndarray]  # {kind: bool [E]}: edges that are kept, each with one op
    # {kind: [history, E, O]}: ops but `none` as a distribution, in past epochs, newest last.
    history: dict[str, np.ndarray]
    seen: np.ndarray  # []: how many epochs there have been
    epochs: np.ndarray  # []: of the whole search


@checked
def greedy(*, criterion: int = 1, warm_up: int = 9, interval: int = 5, history: int = 4) -> Rule:
    """Returns the rule that decides one edge of each kind every few epochs, until each node has as
    many inputs as a genotype keeps.

    The edge with the highest score gets its strongest op but `none`. The score of an edge is the
    product of

    * importance: what its ops but `none` weigh together;
    * certainty: one minus the entropy of their distribution, over the logarithm of their number;
    * stability (criterion 2 only): the mean intersection, sum of minima, of that distribution with
      those of past epochs;

    each scaled from 0 to 1 over the edges of the kind that are undecided. Once a node has all of
    its inputs decided, `Choices.keep` of them, its others are dropped. The search goes on after the
    last decision; its last epoch decides whatever is left.

    The released code scales over decided edges as well, which here have left the relaxation. It
    also adds 8 to the batch size with each decision, which a rule cannot.

    Args:
      criterion: 1 or 2.
      warm_up: epochs, counted in full, before the one after which the first decision falls.
      interval: epochs between decisions; see `greedy_epochs`.
      history: past epochs for criterion 2.

    Raises:
      ValueError: for another criterion, or an interval or a history below 1; at the start of a
        search if a node of the space keeps all of its edges, or more than it has.
    """
    if criterion not in (1, 2):
        raise ValueError(f"criterion is 1 or 2, got {criterion}")
    if min(interval, history) < 1:
        raise ValueError(f"interval and history are at least 1, got {interval} and {history}")

    def init(space: SearchSpace, epochs: int) -> GreedyState:
        for kind, choices in space.choices.items():
            _check_places(space.name, kind, choices)
        decided = {kind: np.zeros(len(own.rows), bool) for kind, own in space.choices.items()}
        past = {
            kind: np.repeat(rows[None], history, axis=0) for kind, rows in zero_mix(space).items()
        }
        return GreedyState(decided, past, np.asarray(0), np.asarray(epochs))

    def update(state: GreedyState, observed: Observed) -> tuple[GreedyState, Verdict]:
        last = observed.epoch >= state.epochs
        due = observed.epoch > warm_up and (observed.epoch - 1 - warm_up) % interval == 0
        decided, past, candidates = dict(state.decided), {}, dict(observed.candidates)
        for kind, choices in observed.space.choices.items():
            weights = np.where(choices.is_nothing, 0.0, observed.mix[kind])
            shares = weights / np.maximum(weights.sum(1, keepdims=True), np.finfo(np.float32).tiny)
            recent = state.history[kind][history - min(int(state.seen), history) :]
            past[kind] = np.concatenate([state.history[kind][1:], shares[None].astype(np.float32)])
            factors = [weights.sum(1), _certainty(shares, (~choices.is_nothing).sum())]
            if criterion == 2 and len(recent):
                factors.append(np.minimum(recent, shares).sum(2).mean(0))
            for _ in range(len(choices.rows) if last else int(due)):
                candidates[kind], decided[kind] = _decide(
                    choices, candidates[kind], decided[kind], weights, factors
                )
        changed = due or last
        state = GreedyState(decided, past, np.asarray(state.seen + 1), state.epochs)
        count = float(sum(rows.sum() for rows in decided.values()))
        return state, Verdict(
            candidates=candidates if changed else None,
            mix=decided_mix(observed.mix, candidates) if changed else None,
            metrics={"decided": count},
        )

    return Rule(init, update)


@checked
def greedy_epochs(
    space: SearchSpace, *, warm_up: int = 9, interval: int = 5, after: int = 5
) -> int:
    """Returns the length of a search in which `greedy` decides every edge in its turn, and `after`
    more epochs.

    Example:
      >>> import dnas
      >>> greedy_epochs(dnas.SPACES["darts"])
      50
    """
    decisions = max(
        sum(choices.places(group) for group in choices.together)
        for choices in space.choices.values()
    )
    return warm_up + 1 + interval * (decisions - 1) + after


def _check_places(space: str, kind: str, choices: Choices) -> None:
    """Raises ValueError unless nodes keep some of their edges."""
    if choices.groups and choices.keep is None:
        raise ValueError(
            "greedy decisions end when a node has the edges that it keeps, but nodes of"
            f" {kind!r} in the space {space!r} keep all of theirs; take a space whose nodes keep"
            " some, such as 'darts'"
        )
    for group in choices.groups:
        if len(group) < choices.places(group):
            raise ValueError(
                f"a node of cell {kind!r} keeps {choices.keep} edges, and has fewer:"
                f" {[choices.rows[row] for row in group]}"
            )


def _decide(
    choices: Choices,
    candidates: AnyArray,
    decided: np.ndarray,
    weights: np.ndarray,
    factors: list[np.ndarray],
) -> tuple[AnyArray, np.ndarray]:
    """The candidates [E, O] and the decided edges [E] after the next decision, if there is one left
    to make."""
    left = np.asarray(candidates) & ~choices.is_nothing
    undecided = np.flatnonzero(left.any(1) & ~decided)
    if not undecided.size:
        return candidates, decided
    score = np.prod([_scaled(factor[undecided]) for factor in factors], axis=0)
    edge = int(undecided[score.argmax()])
    op = int(np.where(left[edge], weights[edge], -1).argmax())
    candidates = keep_op(candidates, edge, op)
    decided = decided | (np.arange(len(choices.rows)) == edge)
    group = choices.group_of(edge)
    if decided[list(group)].sum() >= choices.places(group):
        for other in group:
            candidates = candidates if decided[other] else drop_edge(candidates, other)
    return candidates, decided


def _certainty(shares: np.ndarray, num_ops: int) -> np.ndarray:
    """One minus the entropy of each row, over the largest that as many ops can have."""
    logarithms = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return 1 + (shares * logarithms).sum(1) / np.log(max(num_ops, 2))


def _scaled(factor: np.ndarray) -> np.ndarray:
    """From 0 to 1; ones where all are equal, so that a factor which tells nothing decides
    nothing."""
    spread = factor.max() - factor.min()
    return (factor - factor.min()) / spread if spread > 0 else np.ones_like(factor)
