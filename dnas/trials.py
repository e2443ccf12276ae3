"""A search by short trainings from scratch, of architectures that a searcher asks for."""

import functools
import time
from collections.abc import Callable, Generator

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Mix
from dnas.baselines import live_macs
from dnas.genotype import Genotype
from dnas.hw_loss import Limits, repair
from dnas.methods import SearchResult, Trials, TrialsState
from dnas.model import Model
from dnas.running.loop import Hooks, Progress
from dnas.searchers import Architectures, Evaluation, Search
from dnas.short_training import short_training
from dnas.space import SearchSpace, one_hot_mix
from dnas.tasks import Task


def run_trials(
    space: SearchSpace,
    task: Task,
    trials: Trials,
    *,
    model: Model,
    batch_size: int,
    start: Genotype | None,
    number: int | None,
    seed: int,
    hooks: Hooks,
) -> SearchResult:
    """Returns what trials find, and a row of each that this call has run.

    Args:
      model: what is trained, which takes a mix of the space.
      start: what the stage before has found; None where there is none.
      number: of trials, those of `trials` at the most; all of them if None.
      hooks: `resume` is given a `TrialsState`.
    """
    train = short_training(
        space,
        task,
        epochs=trials.epochs,
        steps=trials.steps,
        batch_size=batch_size,
        model=model,
        optimizer=trials.optimizer,
        seed=seed,
    )
    start = trials.start(space, trials.limits) if start is None else start
    asked, found, rows = _Asked(space, trials, start, seed), start, []
    state = TrialsState(np.asarray(0), np.full(trials.number, np.nan, np.float32))
    state = hooks.resume(state)
    number = trials.number if number is None else min(number, trials.number)
    while asked.wanted is not None and asked.done < number:
        started, done = time.perf_counter(), asked.done
        is_new, (genotype, own_seed) = done >= int(state.step), asked.wanted
        if is_new:
            *_, value = train(genotype, seed=own_seed)
            values = np.array(state.values)
            values[done] = value
            state = TrialsState(np.asarray(done + 1), values)
        value = float(state.values[done])
        asked.tell(value)
        found = trials.choose(asked.known, asked.noise)
        if not is_new:
            continue
        row = {"epoch": done + 1, "step": done + 1, "steps": 1, "value": value}
        row |= {"trained": genotype.to_json(), "seed": own_seed}
        rows.append(row | {"mix": _mix_of(space, found), "genotype": found})
        seconds = time.perf_counter() - started
        hooks.report(
            Progress(
                done + 1,
                number,
                1,
                seconds,
                {"value": np.array([value])},
                state,
                rows[-1],
                stopped=asked.wanted is None,
                unit="trial",
            )
        )
    return SearchResult(found, _mix_of(space, found), state, rows)


class _Asked:
    """What is to be trained next. The values that it is told decide everything.

    Attributes:
      wanted: (architecture, seed of its training), None at the end.
      done: trials whose values are known.
      known: those with the seed of the run.
      noise: deviation of the values of the first architecture with all its seeds.
    """

    def __init__(self, space: SearchSpace, trials: Trials, start: Genotype, seed: int):
        self.done, self.noise = 0, 0.0
        self.known: list[Evaluation] = []
        self._run = self._trials(space, trials, start, seed)
        self.wanted: tuple[Genotype, int] | None = next(self._run)

    def tell(self, value: float) -> None:
        assert self.wanted is not None
        self.done += 1
        try:
            self.wanted = self._run.send(value)
        except StopIteration:
            self.wanted = None

    def _trials(
        self, space: SearchSpace, trials: Trials, start: Genotype, seed: int
    ) -> Generator[tuple[Genotype, int], float, None]:
        values = {start: (yield start, seed)}
        self.known.append(Evaluation(start, values[start]))
        repeated = [values[start]]
        for number in range(trials.repeats):
            (own_seed,) = np.random.SeedSequence([seed, number]).generate_state(1)
            repeated.append((yield start, int(own_seed >> 1)))
        if trials.repeats:
            self.noise = float(np.std(repeated, ddof=1))
        within = nearest_within(space, trials.limits) if trials.limits else None
        search = Search(space, trials.searcher(start, self.noise), seed, within=within)
        while not search.ended:
            genotype = search.ask()
            if genotype not in values:
                values[genotype] = yield genotype, seed
                self.known.append(Evaluation(genotype, values[genotype]))
            search.tell(values[genotype])


def nearest_within(space: SearchSpace, limits: Limits) -> Callable[[Genotype], Genotype]:
    """Returns what brings a genotype within limits on costs: by the one exchange that leaves most
    multiply-adds, or if none is enough as `repair` does. What is within them stays as it is."""
    every, macs = Architectures(space), live_macs(space)
    costs = [macs, *(cost for cost, _ in limits)]
    bounds = np.array([bound for _, bound in limits])
    costs_of = jax.jit(jax.vmap(lambda mix: jnp.stack([cost(mix) for cost in costs], axis=-1)))

    @functools.cache
    def within(genotype: Genotype) -> Genotype:
        mix = one_hot_mix(space, genotype)
        if all(cost.meets(mix, bound) for cost, bound in limits):
            return genotype
        near = [every.genotype_of(own) for own in every.neighbours(every.picks_of(genotype))]
        mixes = [one_hot_mix(space, own) for own in near]
        sizes, *found = np.asarray(costs_of(jax.tree.map(lambda *own: np.stack(own), *mixes))).T
        for number in np.argsort(-sizes, kind="stable"):
            is_near = (np.array([own[number] for own in found]) <= bounds * (1 + 1e-6)).all()
            if is_near and all(cost.meets(mixes[number], bound) for cost, bound in limits):
                return near[number]
        return repair(space, genotype, mix, limits)

    return within


def _mix_of(space: SearchSpace, genotype: Genotype) -> Mix:
    return {kind: np.asarray(rows) for kind, rows in one_hot_mix(space, genotype).items()}
