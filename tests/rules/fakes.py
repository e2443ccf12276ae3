"""A search without a supernet: what rules see when arch follows a script."""

import numpy as np

from dnas.base import ABSENT
from dnas.rules import Observed


def mix_of(logits, candidates):
    """The softmax of what is left, as dnas.search makes it."""
    found = {}
    for kind, rows in logits.items():
        rows = np.where(candidates[kind], rows, ABSENT)
        weights = np.exp(rows - rows.max(1, keepdims=True))
        found[kind] = (weights / weights.sum(1, keepdims=True) * candidates[kind]).astype(
            np.float32
        )
    return found


def everything(space):
    return {
        kind: np.ones((len(spec.edges), len(spec.ops)), bool) for kind, spec in space.cells.items()
    }


def random_logits(space, seed=0):
    random = np.random.default_rng(seed)
    return {
        kind: random.normal(size=(len(spec.edges), len(spec.ops)))
        for kind, spec in space.cells.items()
    }


def drift_to_skip(space, rate=0.1, seed=0):
    """epoch -> logits of which those of skip_connect grow, at an own rate on each edge: the
    collapse of DARTS."""
    start = random_logits(space, seed)
    rates = np.random.default_rng(seed + 1).uniform(0.5, 1.5, 99) * rate

    def logits(epoch):
        found = {}
        for kind, spec in space.cells.items():
            found[kind] = start[kind].copy()
            found[kind][:, spec.ops.index("skip_connect")] += -2 + rates[: len(spec.edges)] * epoch
        return found

    return logits


class Run:
    """What came of a search under a rule: verdicts and observed mixes, one an epoch, and the last
    candidates."""

    def __init__(self, rule, space, logits, epochs, accuracy=None, sharpness=None):
        state, self.candidates, self.verdicts, self.mixes = (
            rule.init(space, epochs),
            everything(space),
            [],
            [],
        )
        for epoch in range(1, epochs + 1):
            mix = mix_of(logits(epoch), self.candidates)
            observed = Observed(
                space,
                epoch,
                mix,
                self.candidates,
                accuracy,
                sharpness and (lambda epoch=epoch: sharpness(epoch)),
            )
            state, verdict = rule.update(state, observed)
            if verdict.candidates is not None:
                for kind, rows in verdict.candidates.items():
                    assert (rows <= self.candidates[kind]).all(), (
                        "a dropped candidate has come back"
                    )
                self.candidates = verdict.candidates
            self.verdicts.append(verdict)
            self.mixes.append(mix)
            if verdict.stop:
                break
        self.epoch, self.state, self.verdict = epoch, state, verdict

    def metric(self, name):
        return {
            epoch: v.metrics[name] for epoch, v in enumerate(self.verdicts, 1) if name in v.metrics
        }


def same_mix(left, right):
    return all(np.array_equal(left[kind], right[kind]) for kind in right)
