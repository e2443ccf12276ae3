"""Selection by perturbation: an op is worth what the supernet loses without it. DARTS-PT,
https://arxiv.org/abs/2108.04392."""

from typing import NamedTuple

import numpy as np

from dnas.base import AnyArray, Candidates, Mix
from dnas.checks import checked
from dnas.choices import Choices
from dnas.rules.decisions import decided_mix, drop_edge, keep_op
from dnas.rules.rule import Observed, Rule, Verdict
from dnas.space import SearchSpace


class PerturbationState(NamedTuple):
    # {kind: [E + groups with too many edges]}: the order in which edges are decided, and then that
    # of the groups that lose edges
    order: dict[str, np.ndarray]
    events: np.ndarray  # []: how many there have been


@checked
def perturbation(*, interval: int = 5, from_epoch: int = 1, seed: int = 0) -> Rule:
    """Returns the rule that projects a trained supernet onto a genotype, one edge of each kind
    after another.

    Every `interval` epochs, in between which the supernet is tuned, each kind of cell has one
    event. Op phase: the next edge in a random order keeps the op without which the accuracy is
    lowest (the first of them), measured with its weight at zero and all others as they are. Edge
    phase, when every edge has its op: the next node in a random order that has more edges than it
    keeps, `Choices.keep`, loses the edge without which the accuracy is highest (the last of them),
    again and again until so many are left. The search ends with the last event, and the mix has one
    op with weight one on each edge that is left.

    Where nodes keep all of their edges, as in NAS-Bench-201, there is no edge phase, and `none` is
    a candidate like any other; elsewhere it is none.

    What was decided stays decided while the next is measured. The released code forgets the edges
    that it has dropped at a node when it measures the node's other edges; that ranks edges by what
    they add to some that are no longer there.

    Args:
      interval: epochs between events; 5 in the published scripts.
      from_epoch: the first event falls after that many epochs. A supernet that is trained in the
        same search is given its epochs here; see `perturbation_epochs` for the length of the
        search.
      seed: of the random orders.

    Raises:
      ValueError: if interval or from_epoch is below 1; at the start of a search that ends before
        the last event.

    Example:
      >>> import dnas
      >>> space = dnas.SPACES["darts"]
      >>> state = perturbation().init(space, perturbation_epochs(space))
      >>> sorted(map(int, state.order["normal"][14:]))
      [1, 2, 3]
    """
    if min(interval, from_epoch) < 1:
        raise ValueError(f"interval and from_epoch are at least 1, got {interval} and {from_epoch}")

    def init(space: SearchSpace, epochs: int) -> PerturbationState:
        needed = perturbation_epochs(space, interval=interval, from_epoch=from_epoch)
        if epochs < needed:
            raise ValueError(
                f"selection by perturbation needs {needed} epochs in this space, the search has"
                f" {epochs}"
            )
        random = np.random.default_rng(seed)
        edges = {kind: random.permutation(len(own.rows)) for kind, own in space.choices.items()}
        groups = {kind: random.permutation(_crowded(own)) for kind, own in space.choices.items()}
        order = {kind: np.append(edges[kind], groups[kind]).astype(int) for kind in edges}
        return PerturbationState(order, np.asarray(0))

    def update(state: PerturbationState, observed: Observed) -> tuple[PerturbationState, Verdict]:
        if observed.epoch < from_epoch or (observed.epoch - from_epoch) % interval:
            return state, Verdict()
        event, (op_events, node_events) = int(state.events), _events(observed.space)
        candidates = dict(observed.candidates)
        for kind, choices in observed.space.choices.items():
            mix = decided_mix(observed.mix, candidates)
            edges, groups = np.split(state.order[kind], [len(choices.rows)])
            if event < len(edges):
                candidates[kind] = _decide_op(observed, mix, candidates, kind, edges[event])
            elif 0 <= event - op_events < len(groups):
                group = choices.groups[groups[event - op_events]]
                candidates[kind] = _thin_out(observed, mix, candidates, kind, group)
        done = event + 1 >= op_events + node_events
        verdict = Verdict(
            candidates, done, decided_mix(observed.mix, candidates), {"projected": float(event + 1)}
        )
        return state._replace(events=np.asarray(event + 1)), verdict

    return Rule(init, update)


@checked
def perturbation_epochs(space: SearchSpace, *, interval: int = 5, from_epoch: int = 1) -> int:
    """Returns the length of a search that ends with the last event of `perturbation`.

    Example:
      >>> import dnas
      >>> perturbation_epochs(dnas.SPACES["darts"]) == 5 * (14 + 3 - 1) + 1
      True
    """
    return interval * (sum(_events(space)) - 1) + from_epoch


def _events(space: SearchSpace) -> tuple[int, int]:
    """How many events decide ops, and how many drop edges."""
    kinds = space.choices.values()
    return max(len(own.rows) for own in kinds), max(len(_crowded(own)) for own in kinds)


def _crowded(choices: Choices) -> list[int]:
    """The numbers of the groups that have more rows than places."""
    groups = enumerate(choices.groups)
    return [number for number, group in groups if len(group) > choices.places(group)]


def _without(mix: Mix, kind: str, place: int | tuple[int, int]) -> Mix:
    rows = np.array(mix[kind])
    rows[place] = 0
    return {**mix, kind: rows}


def _decide_op(
    observed: Observed, mix: Mix, candidates: Candidates, kind: str, edge: int
) -> AnyArray:
    choices = observed.space.choices[kind]
    possible = choices.allowed if choices.keep is None else choices.computes
    left = np.flatnonzero(candidates[kind][edge] & possible[edge])
    if not left.size:  # dropped by another rule
        return candidates[kind]
    accuracies = [observed.accuracy(_without(mix, kind, (edge, int(op)))) for op in left]
    return keep_op(candidates[kind], edge, int(left[np.argmin(accuracies)]))


def _thin_out(
    observed: Observed,
    mix: Mix,
    candidates: Candidates,
    kind: str,
    group: tuple[int, ...],
) -> AnyArray:
    left, rows = [edge for edge in group if candidates[kind][edge].any()], candidates[kind]
    while len(left) > observed.space.choices[kind].places(group):
        accuracies = [observed.accuracy(_without(mix, kind, edge)) for edge in left]
        weakest = left.pop(len(left) - 1 - int(np.argmax(accuracies[::-1])))
        rows, mix = drop_edge(rows, weakest), _without(mix, kind, weakest)
    return rows
