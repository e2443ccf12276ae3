"""How long a search is, and how it trains weights and arch."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import optax

from dnas import bilevel
from dnas.bilevel import ArchGradient, BilevelOptimizer
from dnas.checks import MOST_SEED, at_least, check_fields

_FIRST_ORDER = bilevel.first_order()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """The settings that all methods share; the defaults are those of DARTS on CIFAR-10, section 3.1
    and appendix A.1 of https://arxiv.org/abs/1806.09055."""

    steps_per_epoch: int
    epochs: int = 50
    batch_size: int = 64  # of the weights, and again of arch
    channels: int | None = None  # of the supernet, those of the space unless given
    num_cells: int | None = None
    seed: int = 0  # of what a rule or a selection draws
    learning_rate: float = 0.025  # SGD's for the weights at the start
    min_learning_rate: float = 0.001
    rate_schedule: Literal["cosine", "cosine_power"] = "cosine"
    # part of the epochs, from 0 to 1, in which the rate rises to its start
    rate_warmup: float = 0.0
    annealing: float = 1.0  # the learning rate falls over so many times the epochs
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    clip: float | None = 5.0  # largest norm of the weights' gradient
    clip_virtual: bool = False  # whether virtual steps of an unrolled gradient are clipped as well
    single_level: bool = False  # weights and arch learn from the same batches
    arch_gradient: ArchGradient = _FIRST_ORDER
    arch_optimizer: optax.GradientTransformation | None = None  # in place of Adam as below
    arch_learning_rate: float = 3e-4
    arch_b1: float = 0.5
    arch_weight_decay: float = 1e-3
    arch_clip: float | None = None  # largest norm of arch's gradient
    warmup: float = 0.0  # part of the epochs, from 0 to 1, in which arch stays as it is
    arch_every: int = 1  # arch moves in every so many steps
    order: Literal["arch_first", "weights_first"] = "arch_first"

    def __post_init__(self):
        check_fields(self)
        counts = {name: getattr(self, name) for name in ("channels", "num_cells")}
        counts = {name: number for name, number in counts.items() if number is not None}
        at_least(1, steps_per_epoch=self.steps_per_epoch, batch_size=self.batch_size, **counts)
        at_least(1, arch_every=self.arch_every)
        at_least(0, most=MOST_SEED, seed=self.seed)
        at_least(0, epochs=self.epochs)
        for name in ("rate_warmup", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is the part of the epochs that it takes, from 0 to 1, got"
                    f" {getattr(self, name)}"
                )

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


# What searches of a family of spaces have in common that is not DARTS's.
FAMILIES: dict[str, Mapping[str, Any]] = {
    "darts": {},
    # the searches of the benchmark, AutoDL-Projects, configs/nas-benchmark/algos
    "nasbench201": {"order": "weights_first", "nesterov": True, "weight_decay": 5e-4},
    "chain": {},
    # DARTS on Penn Treebank, rnn/train_search.py
    "recurrent": {
        "batch_size": 256,
        "learning_rate": 20.0,
        "min_learning_rate": 20.0,
        "momentum": 0.0,
        "weight_decay": 5e-7,
        "clip": 0.25,
        "clip_virtual": True,
        "arch_learning_rate": 3e-3,
        "arch_b1": 0.9,
    },
}


# What releases have in NAS-Bench-201 whose searches are made of the code of DARTS and not of that
# of the benchmark.
DARTS_IN_NASBENCH201: Mapping[str, Any] = {
    "order": "arch_first",
    "nesterov": False,
    "weight_decay": 3e-4,
}


def weight_optimizer(
    training: Training,
    epochs: int,
    steps_per_epoch: int,
    *,
    clip: float | None = None,
    schedule: optax.Schedule | None = None,
) -> optax.GradientTransformation:
    """Returns what trains the weights, its learning rate falling over these epochs.

    Args:
      clip: largest norm of the gradient.
      schedule: the learning rate, that of the settings unless given.
    """
    if schedule is None:
        schedule = _falling(training, epochs, steps_per_epoch)
    return bilevel.sgd(
        schedule,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        clip=clip,
    )


def check_unused(training: Training, method: str, names: Sequence[str]) -> None:
    """Raises ValueError where a setting that a method has no use for is not DARTS's."""
    defaults = {field.name: field.default for field in dataclasses.fields(Training)}
    changed = [name for name in names if getattr(training, name) != defaults[name]]
    if changed:
        raise ValueError(
            f"{method} takes its steps in a way of its own, and {', '.join(changed)} would have no"
            " effect in it; leave that out"
        )


def _falling(training: Training, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    make_schedule = {
        "cosine": bilevel.cosine_by_epoch,
        "cosine_power": bilevel.cosine_power_annealing,
    }[training.rate_schedule]
    return make_schedule(
        round(training.annealing * epochs),
        steps_per_epoch,
        learning_rate=training.learning_rate,
        min_learning_rate=training.min_learning_rate,
        warmup_epochs=round(training.rate_warmup * epochs),
    )


def arch_optimizer(training: Training) -> optax.GradientTransformation:
    """Returns what moves arch: Adam unless the settings hold another optimiser."""
    if training.arch_optimizer is not None:
        return training.arch_optimizer
    adam = bilevel.arch_adam(
        training.arch_learning_rate,
        b1=training.arch_b1,
        weight_decay=training.arch_weight_decay,
    )
    if training.arch_clip is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(training.arch_clip), adam)


def alternating(
    training: Training,
    arch: optax.GradientTransformation | None = None,
    *,
    schedule: Callable[[int, int], optax.Schedule] | None = None,
) -> Callable[[int, int], BilevelOptimizer]:
    """Returns DARTS's alternation of steps of arch and of weights with these settings, or where
    they say so one step of both on a single level; as a function of the epochs and the steps of
    each.

    Args:
      arch: what moves arch, that of the settings unless given.
      schedule: the learning rate of the weights, as a function of the epochs and the steps of each;
        that of the settings unless given.

    Raises:
      ValueError: for an order of steps, or steps without arch, on a single level.
    """
    if training.single_level and (
        training.warmup or training.arch_every > 1 or training.order != "arch_first"
    ):
        raise ValueError(
            "a single level has no arch step of its own: leave out warmup, arch_every and order"
        )
    return functools.partial(_alternating, training, arch, schedule)


def _alternating(
    training: Training,
    arch: optax.GradientTransformation | None,
    schedule: Callable[[int, int], optax.Schedule] | None,
    epochs: int,
    steps_per_epoch: int,
) -> BilevelOptimizer:
    rate = None if schedule is None else schedule(epochs, steps_per_epoch)
    weights = functools.partial(weight_optimizer, training, epochs, steps_per_epoch, schedule=rate)
    arch = arch_optimizer(training) if arch is None else arch
    if training.single_level:
        # The outer objective holds the arch losses, and has the same batch.
        return bilevel.single_level(weights(clip=training.clip), arch, inner_weight=0.0)
    return bilevel.alternating(
        training.arch_gradient,
        weights(clip=training.clip),
        arch,
        virtual_optimizer=weights(clip=training.clip if training.clip_virtual else None),
        warmup_steps=round(training.warmup * epochs) * steps_per_epoch,
        arch_every=training.arch_every,
        order=training.order,
    )
