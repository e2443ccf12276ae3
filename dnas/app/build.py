"""From settings to the parts of a search: names become objects here."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import dnas
from dnas import arch_losses, bilevel, relax
from dnas.app import hardware, named
from dnas.app.config import MethodConfig


class Length(NamedTuple):
    """Of a search, or of a stage of one."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def is_single_level(config: MethodConfig) -> bool:
    return config.optimizer == "single_level"


def parts_of(
    config: MethodConfig, steps_per_epoch: int, limits: Sequence[hardware.Limit] = ()
) -> dict[str, Any]:
    """Returns the parts of the `dnas.Method` that the settings name.

    Args:
      steps_per_epoch: of the search.
      limits: on what the network costs, `hardware.limits_of`.

    Raises:
      ValueError: for names that do not exist, and for parts that do not fit each other.
    """
    if config.sampled and config.per_sample:
        raise ValueError(
            "a sampled path is one for the whole batch; leave out sampled or per_sample"
        )
    length = Length(config.epochs, steps_per_epoch)
    relaxation = _base_relaxation(config, length)
    if config.sampled and not _is_one_hot(_first_mix(config, relaxation)):
        raise ValueError(
            "sampled runs one op an edge and needs one-hot draws: RELAX=gumbel_hard or"
            f" binary_gates, not {config.relax}"
        )
    _check(config, relaxation)
    terms = hardware.search_terms(config, limits, length.steps)
    return {
        "relaxation": _relaxation(config, length, relaxation),
        "optimizer": functools.partial(_optimizer, config, _arch_optimizer(config, length, limits)),
        "perturbation": _perturbation(config, length),
        "single_level": is_single_level(config),
        "rule": _rule(config),
        "select": named.make(dnas.SELECTIONS, "select", config.select),
        **terms,
        "arch_losses": [*_arch_losses(config, length), *terms.get("arch_losses", ())],
    }


def _check(config: MethodConfig, relaxation: dnas.Relaxation) -> None:
    rows = _first_arch(config, relaxation)["ops"]
    on_simplex = bool(jnp.allclose(rows.sum(-1), 1, atol=1e-4))
    optimizer = named.name_of(config.arch_optimizer)
    needs_simplex = optimizer in ("exponentiated_gradient", "frank_wolfe")
    if on_simplex if optimizer == "adam" else needs_simplex and not on_simplex:
        raise ValueError(
            "the relaxation simplex and the arch optimisers exponentiated_gradient and frank_wolfe"
            " belong together: give RELAX=simplex ARCH_OPTIMIZER=exponentiated_gradient, or neither"
        )
    if config.edge_weights and on_simplex:
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


# Keywords in which a rule's paper counts epochs of a search of 50.
_IN_50_EPOCHS = {
    "eigenvalue": ("from_epoch",),
    "greedy": ("warm_up", "interval"),
    "ranking": ("patience",),
    "skip_count": ("from_epoch",),
}


def _rule(config: MethodConfig) -> dnas.Rule | None:
    """The rule by name, its epochs counted as parts of the search where the paper counts them in
    one of 50."""
    if config.rule is None:
        given = [name for name in ("interval", "samples") if getattr(config, name) is not None]
        if given:
            raise ValueError(f"{' and '.join(given)} is of a rule; give RULE= too, or leave it out")
        return None

    settings: dict[str, Any] = {"interval": config.interval, "num_samples": config.samples}
    offered = {"seed": config.seed}
    name, known = named.name_of(config.rule), named.keywords_of(dnas.RULES, "rule", config.rule)
    for keyword in _IN_50_EPOCHS.get(name, ()):
        published = known[keyword].default
        if settings.get(keyword) is not None:
            published = settings[keyword]
        settings[keyword] = max(round(published * config.epochs / 50), 1)
    if name == "perturbation":  # its last event falls on the last epoch
        own = settings | named.given_in(config.rule)
        pace = {key: own[key] for key in ("interval", "k") if own.get(key) is not None}
        needed = dnas.perturbation_epochs(dnas.SPACES[config.space], **pace)
        offered["from_epoch"] = max(config.epochs - needed + 1, 1)
    return named.make(dnas.RULES, "rule", config.rule, settings, offered)


def _base_relaxation(config: MethodConfig, length: Length) -> dnas.Relaxation:
    settings = {
        "init_scale": config.arch_init_scale,
        "temperature": _temperature(config, length),
    }
    return named.make(dnas.RELAXATIONS, "relaxation", config.relax, settings)


def _first_arch(config: MethodConfig, relaxation: dnas.Relaxation) -> Any:
    """What the relaxation starts the first kind of decisions with."""
    choices = next(iter(dnas.SPACES[config.space].choices.values()))
    return relaxation.init(jax.random.key(config.seed), choices)


def _first_mix(config: MethodConfig, relaxation: dnas.Relaxation) -> jax.Array:
    """A draw for the first kind of decisions."""
    choices = next(iter(dnas.SPACES[config.space].choices.values()))
    key, arch = jax.random.key(config.seed), _first_arch(config, relaxation)
    return relaxation.sample(key, arch, choices, jnp.zeros((), jnp.int32))


def _is_one_hot(mix: jax.Array) -> bool:
    ordered = jnp.sort(mix, axis=-1)
    return bool(
        jnp.allclose(ordered[..., -1], 1, atol=1e-4)
        and jnp.allclose(ordered[..., :-1], 0, atol=1e-4)
    )


def _relaxation(config: MethodConfig, length: Length, made: dnas.Relaxation) -> dnas.Relaxation:
    if config.edge_weights and named.name_of(config.relax) != "edge_weights":
        made = relax.edge_weights(made)
    if config.skip_dropout:
        falling = optax.linear_schedule(config.skip_dropout, 0.0, length.steps)
        made = relax.drop_ops(made, falling, ops=("skip_connect",))
    if config.search_drop_path:
        made = relax.drop_ops(
            made, optax.linear_schedule(0.0, config.search_drop_path, length.steps)
        )
    return relax.per_sample(made, config.batch_size) if config.per_sample else made


def _temperature(config: MethodConfig, length: Length) -> optax.Schedule | None:
    start = config.temperature
    if start is None:
        if config.temperature_end is not None:
            raise ValueError("temperature_end is where a temperature goes; give TEMPERATURE too")
        return None
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
    # The outer objective holds the arch losses, and has the same batch.
    if config.optimizer == "single_level":
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
    settings = {"b1": config.arch_b1, "weight_decay": config.arch_weight_decay}
    offered: dict[str, Any] = {"learning_rate": config.arch_learning_rate}
    if hardware.keeps_bound(config):
        if len(limits) != 1:
            raise ValueError(
                f"the arch optimiser {config.arch_optimizer} keeps one bound, and {len(limits)} are"
                " given: give one TARGET"
            )
        # The paper's first steps go to corners or near them; here weights are still random then,
        # and they are left out.
        offered |= {
            "key": jax.random.key(config.seed),
            "cost": limits[0].cost,
            "bound": limits[0].bound,
            "start": length.steps // 10,
        }
    made = named.make(
        dnas.ARCH_OPTIMIZERS, "arch_optimizer", config.arch_optimizer, settings, offered
    )
    return relax.keep_pair_mass(made) if named.name_of(config.relax) == "binary_gates" else made
