"""From settings to the parts of a search: names become objects here."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

import dnas
from dnas import arch_losses, bilevel, hw_loss, relax, rules, selection
from experiments import hardware
from experiments.config import MethodConfig, SearchConfig


class Length(NamedTuple):
    """Of a search, or of a stage of one."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def length_of(config: SearchConfig, num_images: int) -> Length:
    """Returns how long a search over so many training images is."""
    used = num_images if is_single_level(config) else num_images // 2
    return Length(config.epochs, max(used // config.batch_size, 1))


def is_single_level(config: MethodConfig) -> bool:
    return config.optimizer == "single_level"


def parts_of(
    config: SearchConfig, num_images: int, limits: Sequence[hardware.Limit] = ()
) -> dict[str, Any]:
    """Returns what `dnas.run_search` takes of the settings besides data, space and sizes.

    Args:
      limits: on what the network costs, `hardware.limits_of`.

    Raises:
      ValueError: for names that do not exist, and for parts that do not fit each other.
    """
    if config.sampled and config.relax not in ("gumbel_hard", "binary_gates"):
        raise ValueError(
            "sampled runs one op an edge and needs one-hot draws: RELAX=gumbel_hard or"
            f" binary_gates, not {config.relax}"
        )
    if config.sampled and config.per_sample:
        raise ValueError(
            "a sampled path is one for the whole batch; leave out sampled or per_sample"
        )
    length = length_of(config, num_images)
    parts = method_parts(config, length, limits) | {
        "rule": None if config.rule is None else _rule(config)
    }
    terms = hardware.search_terms(config, limits, length.steps)
    return parts | terms | {"arch_losses": [*parts["arch_losses"], *terms.get("arch_losses", ())]}


def method_parts(
    config: MethodConfig, length: Length, limits: Sequence[hardware.Limit] = ()
) -> dict[str, Any]:
    """Returns the parts that a search has in any space, on images or on a text.

    Args:
      limits: one of them is needed by the arch optimiser frank_wolfe.

    Raises:
      ValueError: for names that do not exist, and for parts that do not fit each other.
    """
    _check(config)
    return {
        "relaxation": _relaxation(config, length),
        "optimizer": functools.partial(_optimizer, config, _arch_optimizer(config, length, limits)),
        "arch_losses": _arch_losses(config, length),
        "perturbation": _perturbation(config, length),
        "single_level": is_single_level(config),
        "select": _named(selection.SELECTIONS, "select", config.select)(),
    }


def _named(known: Mapping[str, Any], what: str, name: str):
    if name not in known:
        raise ValueError(f"{what} {name!r} is not known; choose from: {', '.join(known)}")
    return known[name]


def _check(config: MethodConfig) -> None:
    _named(relax.RELAXATIONS, "relaxation", config.relax)
    if (config.relax == "simplex") != (config.arch_optimizer != "adam"):
        raise ValueError(
            "the relaxation simplex and the arch optimisers exponentiated_gradient and frank_wolfe"
            " belong together: give RELAX=simplex ARCH_OPTIMIZER=exponentiated_gradient, or neither"
        )
    if config.edge_weights and config.arch_optimizer != "adam":
        raise ValueError(
            f"edge weights are logits, which {config.arch_optimizer} would take for probabilities;"
            " leave one out"
        )
    reason = {
        "single_level": "a single level has no arch step of its own",
        "rarts": "RARTS has its own order of steps",
    }
    if config.optimizer in reason and (
        config.warmup or config.arch_every > 1 or config.order != "arch_first"
    ):
        raise ValueError(f"{reason[config.optimizer]}: leave out warmup, arch_every and order")


def _rule(config: SearchConfig) -> dnas.Rule:
    """The rule by name, its epochs counted as parts of the search where the paper counts them in
    one of 50."""

    def epochs(published: int) -> int:
        return max(round(published * config.epochs / 50), 1)

    def perturbation():
        needed = rules.perturbation_epochs(
            dnas.SPACES[config.space], interval=config.interval, from_epoch=1
        )
        first = max(config.epochs - needed + 1, 1)
        return rules.perturbation(interval=config.interval, from_epoch=first, seed=config.seed)

    made = {
        "best_sample": lambda: rules.best_sample(num_samples=config.samples, seed=config.seed),
        "eigenvalue": lambda: rules.eigenvalue(from_epoch=epochs(10)),
        "greedy": lambda: rules.greedy(warm_up=epochs(9), interval=epochs(config.interval)),
        "perturbation": perturbation,
        "ranking": lambda: rules.ranking(patience=epochs(10)),
        "skip_count": lambda: rules.skip_count(from_epoch=epochs(10)),
    }
    return _named(made, "rule", config.rule)()


def _relaxation(config: MethodConfig, length: Length) -> dnas.Relaxation:
    options: dict[str, Any] = {}
    if config.relax in ("gumbel_softmax", "gumbel_hard") and config.temperature is not None:
        options["temperature"] = _temperature(config, length)
    if config.relax not in ("simplex", "sigmoid", "edge_weights", "max_w"):
        options["init_scale"] = config.arch_init_scale
    made = relax.RELAXATIONS[config.relax](**options)
    if config.edge_weights and config.relax != "edge_weights":
        made = relax.edge_weights(made)
    if config.skip_dropout:
        falling = optax.linear_schedule(config.skip_dropout, 0.0, length.steps)
        made = relax.drop_ops(made, falling, ops=("skip_connect",))
    if config.search_drop_path:
        made = relax.drop_ops(
            made, optax.linear_schedule(0.0, config.search_drop_path, length.steps)
        )
    return relax.per_sample(made, config.batch_size) if config.per_sample else made


def _temperature(config: MethodConfig, length: Length) -> optax.Schedule:
    start = config.temperature
    end = start if config.temperature_end is None else config.temperature_end
    if config.temperature_schedule == "linear":
        return relax.linear_temperature(*length, start=start, end=end)
    if min(start, end) <= 0:
        raise ValueError(
            f"a temperature that falls exponentially is positive, got {start} at the start and"
            f" {end} at the end"
        )
    return relax.exponential_temperature(
        *length, start=start, rate=math.log(start / end) / max(length.epochs - 1, 1)
    )


def _arch_losses(config: MethodConfig, length: Length) -> list[tuple[Any, Any]]:
    terms = [
        (config.entropy, arch_losses.entropy()),
        (config.zero_one, arch_losses.zero_one()),
        (config.arch_l2, arch_losses.l2()),
        (config.dirichlet_kl, arch_losses.dirichlet_kl()),
    ]
    terms = [(weight, term) for weight, term in terms if weight]
    if config.beta_decay:
        terms.append(
            (
                arch_losses.beta_decay_schedule(*length, end=config.beta_decay),
                arch_losses.beta_decay(),
            )
        )
    return terms


def _perturbation(config: MethodConfig, length: Length):
    if config.perturb is None:
        return None
    radius = relax.perturbation_radius(
        *length, start=config.perturb_radius / 10, end=config.perturb_radius
    )
    return {"random": relax.random_perturbation, "adversarial": relax.adversarial_perturbation}[
        config.perturb
    ](radius)


def _optimizer(
    config: MethodConfig, arch: optax.GradientTransformation, epochs: int, steps_per_epoch: int
) -> dnas.BilevelOptimizer:
    make_schedule = {
        "cosine": bilevel.cosine_by_epoch,
        "cosine_power": bilevel.cosine_power_annealing,
    }[config.rate_schedule]
    schedule = make_schedule(
        epochs,
        steps_per_epoch,
        learning_rate=config.learning_rate,
        min_learning_rate=config.min_learning_rate,
    )
    of_weights = functools.partial(
        bilevel.sgd,
        schedule,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )
    weights = of_weights(clip=config.clip)
    if (
        config.optimizer == "single_level"
    ):  # the outer objective holds the arch losses, and has the same batch
        return bilevel.single_level(weights, arch, inner_weight=0.0)
    if config.optimizer == "rarts":
        return bilevel.rarts(weights, arch)
    gradients = {
        "first_order": bilevel.first_order,
        "unrolled": functools.partial(bilevel.unrolled, config.unrolled_steps),
        "finite_differences": bilevel.finite_differences,
        "implicit": bilevel.implicit,
    }
    return bilevel.alternating(
        gradients[config.optimizer](),
        weights,
        arch,
        virtual_optimizer=of_weights(clip=config.clip if config.clip_virtual else None),
        warmup_steps=round(config.warmup * epochs) * steps_per_epoch,
        arch_every=config.arch_every,
        order=config.order,
    )


def _arch_optimizer(
    config: MethodConfig, length: Length, limits: Sequence[hardware.Limit]
) -> optax.GradientTransformation:
    if config.arch_optimizer == "exponentiated_gradient":
        return relax.exponentiated_gradient(config.arch_learning_rate)
    if config.arch_optimizer == "frank_wolfe":
        if len(limits) != 1:
            raise ValueError(
                f"the arch optimiser frank_wolfe keeps one bound, and {len(limits)} are given: give"
                " one TARGET"
            )
        # The paper's first steps go to corners or near them; here weights are still random then,
        # and they are left out.
        (limit,), start = limits, length.steps // 10
        return hw_loss.frank_wolfe(
            jax.random.key(config.seed), limit.cost, limit.bound, start=start
        )
    adam = bilevel.arch_adam(
        config.arch_learning_rate, b1=config.arch_b1, weight_decay=config.arch_weight_decay
    )
    return relax.keep_pair_mass(adam) if config.relax == "binary_gates" else adam
