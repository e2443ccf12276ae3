"""Early stopping of RobustDARTS: stop when the loss becomes sharp in arch.
https://arxiv.org/abs/1909.09656."""

from typing import NamedTuple

import numpy as np

from dnas.checks import checked
from dnas.rules.rule import Observed, Rule, Verdict, kept_mix, zero_mix
from dnas.space import SearchSpace


class EigenvalueState(NamedTuple):
    # [window + back]: the last measurements, oldest first; NaN where there is none yet.
    values: np.ndarray
    # {kind: [window // 2 + back + 1, E, O]}: the mix at the last measurements.
    mixes: dict[str, np.ndarray]


@checked
def eigenvalue(
    *,
    every: int = 2,
    window: int = 5,
    back: int = 4,
    threshold: float = 1.3,
    from_epoch: int = 11,
    decay: float = 0.0,
) -> Rule:
    """Returns the guard that stops when the dominant eigenvalue of the arch Hessian has grown too
    fast.

    RobustDARTS as its released code has it: measured after every second epoch, the first one among
    them, and averaged over a window of 5 measurements centred on an epoch (fewer at the start,
    where 3 have been made). If the newest
    average is above 1.3 times that 4 measurements before, the search stops and the mix is that of
    the centre of the older window: with the defaults 12 epochs ago. (The paper writes the test as a
    ratio of old to new below 0.75 at a distance of 5.) An average that is not positive triggers
    nothing.

    The measurement is logged as "eigenvalue", the averages that are compared as "eigenvalue_now"
    and "eigenvalue_before".

    Args:
      every: epochs between measurements.
      window: measurements that are averaged.
      back: measurements between the two averages.
      threshold: largest allowed ratio of the averages.
      from_epoch: the earliest epoch whose mix may be returned, counted from 1; the code counts from
        0 and has 10.
      decay: of the weight decay of arch, which adds so much to every eigenvalue.

    Raises:
      ValueError: if every, window or back is below 1.

    Example:
      >>> import dnas
      >>> eigenvalue().init(dnas.SPACES["darts"], 50).mixes["normal"].shape
      (7, 14, 8)
    """
    if min(every, window, back) < 1:
        raise ValueError(f"every, window and back are at least 1, got {every}, {window} and {back}")
    distance = window // 2 + back  # in measurements, from now to the centre of the older window

    def init(space: SearchSpace, epochs: int) -> EigenvalueState:
        mixes = {
            kind: np.repeat(rows[None], distance + 1, axis=0)
            for kind, rows in zero_mix(space).items()
        }
        return EigenvalueState(np.full(window + back, np.nan), mixes)

    def update(state: EigenvalueState, observed: Observed) -> tuple[EigenvalueState, Verdict]:
        if (observed.epoch - 1) % every:
            return state, Verdict()
        measured = float(observed.sharpness()) + decay
        values = np.append(state.values[1:], measured)
        newest = kept_mix(observed.mix)
        mixes = {
            kind: np.concatenate([rows[1:], newest[kind][None]])
            for kind, rows in state.mixes.items()
        }
        state, metrics = EigenvalueState(values, mixes), {"eigenvalue": measured}

        centre = observed.epoch - every * distance
        if centre < max(from_epoch, 1):
            return state, Verdict(metrics=metrics)
        now, before = np.nanmean(values[-window:]), np.nanmean(values[:window])
        metrics |= {"eigenvalue_now": float(now), "eigenvalue_before": float(before)}
        stop = bool(before > 0 and now > threshold * before)
        oldest = {kind: rows[0] for kind, rows in mixes.items()}
        return state, Verdict(stop=stop, mix=oldest if stop else None, metrics=metrics)

    return Rule(init, update)
