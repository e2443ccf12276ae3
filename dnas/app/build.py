"""From settings to a method: names become objects here."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import dnas
from dnas import arch_losses, bilevel, relax
from dnas.app import hardware, named
from dnas.app.config import NAMES, MethodConfig, PartsConfig, RunConfig, method_named
from dnas.files import shown
from dnas.methods import Method, Training, arch_optimizer, every_stage

# Settings of all methods, by the names that they have there and here; what moves arch is given by
# its name.
_SHARED = {
    name: NAMES.get(name, name)
    for name in Training.__dataclass_fields__
    if NAMES.get(name, name) in MethodConfig.__dataclass_fields__ and name != "arch_optimizer"
}
# Settings that a method may have. Where it has not, they are of the part beside them, or change
# the method in a way of their own.
_OWN = {
    "temperature": "relax",
    "temperature_end": "relax",
    "temperature_schedule": "relax",
    "arch_init_scale": "relax",
    "interval": "rule",
    "samples": "rule",
    "partial_channels": None,
    "perturb_radius": "perturb",
    "skip_dropout": None,
    "search_drop_path": None,
    "entropy": None,
    "beta_decay": None,
    "zero_one": None,
    "arch_l2": None,
    "dirichlet_kl": None,
}
_GRADIENTS: dict[str, Callable[[MethodConfig], bilevel.ArchGradient]] = {
    "first_order": lambda config: bilevel.first_order(),
    "unrolled": lambda config: bilevel.unrolled(config.unrolled_steps),
    "finite_differences": lambda config: bilevel.finite_differences(),
    "implicit": lambda config: bilevel.implicit(),
}


def method_of(
    config: MethodConfig,
    task: dnas.Task,
    limits: Sequence[hardware.Limit] = (),
    options: Mapping[str, Any] | None = None,
) -> Method:
    """Returns the method that the settings name, with what they change of it.

    Args:
      task: what the search learns; an epoch has its steps.
      limits: on what the network costs, `hardware.limits_of`.
      options: of the supernet, besides those in the settings.

    Raises:
      ValueError: for names that do not exist, and for parts that do not fit each other.
    """
    space, published = dnas.SPACES[config.space], method_named(config.method)
    known = published.settings_in(space)
    if config.sampled and config.per_sample:
        raise ValueError(
            "a sampled path is one for the whole batch; leave out sampled or per_sample"
        )
    changes: dict[str, Any] = {
        name: getattr(config, own) for name, own in _SHARED.items() if name in known
    }
    if config.arch_clip is None:  # as the method has it
        changes.pop("arch_clip")
    changes["single_level"] = is_single_level(config)
    if config.optimizer is not None and not changes["single_level"]:
        changes["arch_gradient"] = _GRADIENTS[config.optimizer](config)
    changes |= _own_changes(config, known)
    changes |= named.given_in(config.method)
    length = published.for_task(space, task, **changes).training
    assert length is not None
    if config.relax is not None:
        if "relaxation" not in known:
            raise ValueError(
                f"the method {published.name!r} is its relaxation; leave out RELAX, or choose"
                " another METHOD"
            )
        changes["relaxation"] = _relaxation(config, length)
    if config.arch_optimizer is not None:
        changes["arch_optimizer"] = _arch_optimizer(config, length, limits)
    if named.name_of(config.relax or "") == "binary_gates":
        moves = changes.get("arch_optimizer", arch_optimizer(length))
        changes["arch_optimizer"] = relax.keep_pair_mass(moves)
    made = published.for_task(space, task, **changes)
    _check(config, made)
    extra = supernet_options(config, made) | dict(options or {})
    changed = every_stage(made, functools.partial(_changed, config, known, limits, extra))
    _first_arch(config, changed.relaxation)  # refuses wrappers that do not go together
    return changed


def is_single_level(config: MethodConfig) -> bool:
    """Whether weights and arch learn from the same batches."""
    if config.optimizer is not None:
        return config.optimizer == "single_level"
    return method_named(config.method).settings_in(dnas.SPACES[config.space])["single_level"]


def _own_changes(config: MethodConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `_OWN` that the method has.

    Raises:
      ValueError: for one that neither the method nor a part of it has.
    """
    changes = {}
    for name, part in _OWN.items():
        value = getattr(config, name)
        if value is None:
            continue
        if isinstance(known.get(name), tuple):
            raise ValueError(
                f"{name} of the method {shown(config.method)} is one for each of its stages,"
                f" {known[name]}; leave it out, or make the method in Python"
            )
        if name in known:
            changes[name] = value
        elif part is not None and getattr(config, part) is None:
            raise ValueError(
                f"the method {shown(config.method)} has no {name}; give {part.upper()} too, which"
                " it would be of, or leave it out"
            )
    return changes


def _changed(
    config: MethodConfig,
    known: Mapping[str, Any],
    limits: Sequence[hardware.Limit],
    options: Mapping[str, Any],
    method: Method,
) -> Method:
    """A stage of the method with all that the settings add to it, or put in the place of a part."""
    training = method.training
    assert training is not None
    if method.trials is not None:
        return _within_limits(config, limits, options, method)
    added = {
        name: getattr(config, name)
        for name in _OWN
        if name not in known and getattr(config, name) is not None
    }
    terms = hardware.search_terms(config, limits, training.steps)
    changes: dict[str, Any] = {
        "relaxation": _wrapped(config, added, training, method.relaxation),
        "options": {**method.options, **options},
        **terms,
        "arch_losses": [
            *method.arch_losses,
            *_arch_losses(added, training),
            *terms.get("arch_losses", ()),
        ],
    }
    if config.perturb is not None:
        changes["perturbation"] = _perturbation(config, training)
    if config.rule is not None and (method.rule is None or not method.stages):
        changes["rule"] = _rule(config, training)
    if config.select is not None:
        changes["select"] = named.make(dnas.SELECTIONS, "select", config.select)
    if config.sampled:
        changes["options"]["sampled"] = True
    if "partial_channels" in added:
        changes["options"]["partial_channels"] = added["partial_channels"]
    return method._replace(**changes)


_OF_ALL_RUNS = RunConfig.__dataclass_fields__


def _within_limits(
    config: MethodConfig,
    limits: Sequence[hardware.Limit],
    options: Mapping[str, Any],
    method: Method,
) -> Method:
    """A stage of trials, which begin at what is within the limits and stay there.

    Raises:
      ValueError: for settings of searches by gradients.
    """
    own = [part for part in dataclasses.fields(PartsConfig) if part.name not in _OF_ALL_RUNS]
    if given := [part.name for part in own if getattr(config, part.name) != part.default]:
        raise ValueError(
            f"the method {shown(config.method)} trains architectures one by one, without gradients"
            f" of arch, and has no {', '.join(given)}; leave that out, or choose another METHOD"
        )
    assert method.trials is not None
    trials = method.trials._replace(limits=hardware.bounds(limits))
    return method._replace(options={**method.options, **options}, trials=trials)


def supernet_options(config: MethodConfig, method: Method) -> dict[str, Any]:
    """Returns what the settings say of how the supernet runs.

    Raises:
      ValueError: for a setting that the supernets of the space do not have.
    """
    options = {
        "partial_channels": method.options.get("partial_channels", config.partial_channels),
        "schedule": config.schedule,
        "remat": config.remat,
        "dtype": None if config.dtype == "float32" else config.dtype,
        "sampled": config.sampled or method.options.get("sampled") or None,
    }
    options = {name: value for name, value in options.items() if value is not None}
    taken = inspect.signature(dnas.SPACES[config.space].supernet).parameters
    if lost := [name for name in options if name not in taken]:
        raise ValueError(
            f"supernets of the space {config.space!r} have no option {', '.join(lost)}; leave"
            " it out"
        )
    return options


def _check(config: MethodConfig, method: Method) -> None:
    rows = _first_arch(config, method.relaxation)["ops"]
    on_simplex = bool(jnp.allclose(rows.sum(-1), 1, atol=1e-4))
    needs_simplex = ("exponentiated_gradient", "frank_wolfe")
    if config.relax is not None or config.arch_optimizer is not None:
        moves = named.name_of(config.arch_optimizer or "adam")
        if on_simplex if moves == "adam" else moves in needs_simplex and not on_simplex:
            raise ValueError(
                "the relaxation simplex and the arch optimisers exponentiated_gradient and"
                " frank_wolfe belong together: give --relax=simplex"
                " --arch-optimizer=exponentiated_gradient, or neither"
            )
    if config.edge_weights and on_simplex:
        raise ValueError(
            "edge weights are logits, which an optimiser on the simplex would take for"
            " probabilities; leave one out"
        )
    sampled = config.sampled or method.options.get("sampled", False)
    if sampled and not _is_one_hot(_first_mix(config, method.relaxation)):
        raise ValueError(
            "sampled runs one op an edge and needs one-hot draws: --relax=gumbel_hard or"
            f" binary_gates, not {config.relax or 'those of ' + config.method}"
        )


# Keywords in which a rule's paper counts epochs of a search of 50.
_IN_50_EPOCHS = {
    "eigenvalue": ("from_epoch",),
    "greedy": ("warm_up", "interval"),
    "ranking": ("patience",),
    "skip_count": ("from_epoch",),
}


def _rule(config: MethodConfig, training: Training) -> dnas.Rule:
    """The rule by name, its epochs counted as parts of the search where the paper counts them in
    one of 50."""
    assert config.rule is not None
    settings: dict[str, Any] = {"interval": config.interval, "num_samples": config.samples}
    offered = {"seed": config.seed}
    name, known = named.name_of(config.rule), named.keywords_of(dnas.RULES, "rule", config.rule)
    for keyword in _IN_50_EPOCHS.get(name, ()):
        published = known[keyword].default
        if settings.get(keyword) is not None:
            published = settings[keyword]
        settings[keyword] = max(round(published * training.epochs / 50), 1)
    if name == "perturbation":  # its last event falls on the last epoch
        own = settings | named.given_in(config.rule)
        pace = {} if own.get("interval") is None else {"interval": own["interval"]}
        needed = dnas.perturbation_epochs(dnas.SPACES[config.space], **pace)
        offered["from_epoch"] = max(training.epochs - needed + 1, 1)
    return named.make(dnas.RULES, "rule", config.rule, settings, offered)


def _relaxation(config: MethodConfig, training: Training) -> dnas.Relaxation:
    assert config.relax is not None
    settings = {
        "init_scale": config.arch_init_scale,
        "temperature": _temperature(config, training),
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
    """Whether each row has one entry, which is one; an edge that is left out has none."""
    entries = jnp.sort(mix, axis=-1)
    largest, others = entries[..., -1], entries[..., :-1]
    whole = jnp.isclose(largest, 1, atol=1e-4) | jnp.isclose(largest, 0, atol=1e-4)
    return bool(whole.all() and largest.any() and jnp.allclose(others, 0, atol=1e-4))


def _wrapped(
    config: MethodConfig,
    added: Mapping[str, Any],
    training: Training,
    made: dnas.Relaxation,
) -> dnas.Relaxation:
    if config.edge_weights and named.name_of(config.relax or "") != "edge_weights":
        made = relax.edge_weights(made)
    if added.get("skip_dropout"):
        falling = optax.linear_schedule(added["skip_dropout"], 0.0, training.steps)
        made = relax.drop_ops(made, falling, ops=("skip_connect",))
    if added.get("search_drop_path"):
        rising = optax.linear_schedule(0.0, added["search_drop_path"], training.steps)
        made = relax.drop_ops(made, rising)
    return relax.per_sample(made, training.batch_size) if config.per_sample else made


def _temperature(config: MethodConfig, training: Training) -> optax.Schedule | None:
    length = (training.epochs, training.steps_per_epoch)
    start = config.temperature
    if start is None:
        if config.temperature_end is not None:
            raise ValueError("temperature_end is where a temperature goes; give TEMPERATURE too")
        return None
    end = start if config.temperature_end is None else config.temperature_end
    if config.temperature_schedule in (None, "linear"):
        return relax.linear_temperature(*length, start=start, end=end)
    if min(start, end) <= 0:
        raise ValueError(
            f"a temperature that falls exponentially is positive, got {start} at the start and"
            f" {end} at the end"
        )
    return relax.exponential_temperature(
        *length, start=start, rate=math.log(start / end) / max(training.epochs - 1, 1)
    )


def _arch_losses(added: Mapping[str, Any], training: Training) -> list[tuple[Any, Any]]:
    known = {
        "entropy": arch_losses.entropy,
        "zero_one": arch_losses.zero_one,
        "arch_l2": arch_losses.l2,
        "dirichlet_kl": arch_losses.dirichlet_kl,
    }
    terms: list[tuple[Any, Any]] = [
        (added[name], make()) for name, make in known.items() if added.get(name)
    ]
    if added.get("beta_decay"):
        rising = arch_losses.beta_decay_schedule(
            training.epochs, training.steps_per_epoch, end=added["beta_decay"]
        )
        terms.append((rising, arch_losses.beta_decay()))
    return terms


def _perturbation(config: MethodConfig, training: Training) -> relax.Perturbation:
    assert config.perturb is not None
    largest = {} if config.perturb_radius is None else {"end": config.perturb_radius}
    if largest:
        largest["start"] = largest["end"] / 10
    radius = relax.perturbation_radius(training.epochs, training.steps_per_epoch, **largest)
    make = {"random": relax.random_perturbation, "adversarial": relax.adversarial_perturbation}
    return make[config.perturb](radius)


def _arch_optimizer(
    config: MethodConfig, training: Training, limits: Sequence[hardware.Limit]
) -> optax.GradientTransformation:
    assert config.arch_optimizer is not None
    offered: dict[str, Any] = {
        "learning_rate": config.arch_learning_rate,
        "b1": config.arch_b1,
        "weight_decay": config.arch_weight_decay,
    }
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
            "start": training.steps // 10,
        }
    return named.make(dnas.ARCH_OPTIMIZERS, "arch_optimizer", config.arch_optimizer, None, offered)
