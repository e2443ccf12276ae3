"""Several rules at once."""

import numpy as np

from dnas.base import PyTree
from dnas.rules.decisions import decided_mix
from dnas.rules.rule import Observed, Rule, Verdict
from dnas.space import SearchSpace


def chain(*rules: Rule) -> Rule:
    """Returns the rule that runs all of these after each epoch, in this order.

    The search stops when any of them stops, and the mix is that of the first which does. A rule
    sees the candidates and the mix as the rules before it leave them, and can only drop more:
    candidates are intersected. Metrics are merged.

    Example:
      >>> import dnas
      >>> from dnas.rules import eigenvalue, skip_count
      >>> guards = chain(skip_count(), eigenvalue())
      >>> len(guards.init(dnas.SPACES["darts"], 50))
      2
    """

    def init(space: SearchSpace, epochs: int) -> tuple[PyTree, ...]:
        return tuple(rule.init(space, epochs) for rule in rules)

    def update(
        states: tuple[PyTree, ...], observed: Observed
    ) -> tuple[tuple[PyTree, ...], Verdict]:
        kept, candidates, stop, mix, metrics = [], None, False, None, {}
        for rule, state in zip(rules, states, strict=True):
            state, verdict = rule.update(state, observed)
            kept.append(state)
            metrics |= verdict.metrics
            if verdict.candidates is not None:
                before = observed.candidates
                candidates = {
                    kind: np.asarray(before[kind]) & np.asarray(verdict.candidates[kind])
                    for kind in before
                }
                observed = observed._replace(
                    candidates=candidates, mix=decided_mix(observed.mix, candidates)
                )
            if not stop:
                decided = observed.mix if candidates is not None else None
                stop, mix = verdict.stop, decided if verdict.mix is None else verdict.mix
        return tuple(kept), Verdict(candidates, stop, mix, metrics)

    return Rule(init, update)
