"""The settings of a run, and how the command line is made from them."""

import argparse
import dataclasses
import pathlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import dnas
from dnas.app import named
from dnas.app.datasets import DATASETS
from dnas.app.words import read_words
from dnas.files import read_text_file, shown
from dnas.methods import METHODS, Published, Training


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run has, whatever it does."""

    name: str | None = None
    """Name of the run's folder; made from the settings unless given."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of all runs."""
    space: str = "darts"
    """Search space by name."""
    seed: int = 0
    """Seed of everything random."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What networks compute in. Weights, norms' statistics, losses and updates are float32 either
    way."""
    resume: bool = False
    """Continue a run that was interrupted; the result is the same as without the interruption."""
    overwrite: bool = False
    """Move a run of the same name to the folder .trash beside it first."""
    file: pathlib.Path | None = None
    """TOML file of settings, a line name = value each; what the command line says goes before it.
    """
    explain: bool = False
    """Print every setting, its value and where it comes from, and do nothing else."""
    checkpoint_seconds: float = 20.0
    """Least time between checkpoints, which are written at the end of an epoch, and within long
    ones every five minutes."""


@dataclasses.dataclass(frozen=True)
class DataConfig(RunConfig):
    """Images, those of training and those of the test."""

    dataset: str = "digits"
    """Data set by name: digits (8x8 images, part of scikit-learn), cifar10, cifar100, or smaller
    cifar10:image_size=16, or folder:image_size=224, whose images lie in train/CLASS/ and val/CLASS/
    of --data-dir. Other defaults depend on it."""
    data_dir: pathlib.Path | None = None
    """Folder that holds the data set in its original layout; what is missing is downloaded to it
    (or to a cache)."""
    images: int | None = None
    """Use only this many training images."""
    test_images: int | None = None
    """Use only this many test images."""


@dataclasses.dataclass(frozen=True)
class RetrainingConfig(DataConfig):
    """How final networks are trained and written."""

    retrain_remat: bool = False
    """Whether retraining computes each cell again for the gradient instead of keeping what it
    computed: less memory."""

    onnx: bool = False
    """Whether the network is written as network.onnx too, checked against JAX; its weights are
    random if --retrain=no."""
    litert: bool = False
    """The same as network.tflite, for LiteRT."""

    retrain_channels: int = 36
    """Channels of the first cells of the final network."""
    retrain_cells: int = 20
    """Cells of the final network."""
    retrain_epochs: int = 600
    """Epochs of retraining."""
    retrain_steps: int | None = None
    """End retraining after this many steps."""
    retrain_batch_size: int = 96
    """Images a step."""
    retrain_learning_rate: float = 0.025
    """SGD's at the start."""
    drop_path: float = 0.2
    """Rate of dropped paths at the end; grows from zero."""
    auxiliary: float = 0.4
    """Weight of the auxiliary head's loss; 0 for no head."""
    cutout: int = 16
    """Side of the square cut out of training images in retraining, in pixels; 0 for none."""
    crop_padding: int = 4
    """Training images are shifted at random by up to this many pixels."""
    flip: bool = True
    """Whether training images are flipped left to right at random."""
    augment: str = "none"
    """What else changes training images in retraining, by name, perhaps with keywords: auto for
    AutoAugment, rand:num_ops=2,magnitude=9 for RandAugment, imagenet for crops of any size and a
    jitter of colours."""
    label_smoothing: float = 0.0
    """Part of a label that is spread evenly over all classes in the losses of retraining."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First layers of the final network; those of imagenet make images smaller."""
    recipe: str = "none"
    """Published training of final networks by name, where it is not that of the space: imagenet."""
    evaluate_every: int = 10
    """Epochs between scores on the test images."""
    retrain_schedule: Literal["epoch", "step", "exponential"] = "epoch"
    """How the learning rate of retraining falls: along a cosine to zero, once an epoch or in every
    step, or by 3 % an epoch."""
    retrain_momentum: float = 0.9
    """SGD's in retraining."""
    retrain_nesterov: bool = False
    """Whether that momentum looks ahead."""
    retrain_weight_decay: float = 3e-4
    """Of the weights in retraining."""
    retrain_clip: float | None = 5.0
    """Largest norm of the weights' gradient in retraining; None to clip nothing."""


@dataclasses.dataclass(frozen=True)
class RetrainCommand(RetrainingConfig):
    """Trains the network of a genotype from scratch and scores it on the test images.

    Example: dnas retrain --genotype=DARTS_V2 --dataset=digits
    """

    genotype: str = ""
    """A file (genotype.json or .txt of a run), the name of a published cell such as DARTS_V2, or
    the genotype's text."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """How the supernet is trained: its size, its weights, its logits (arch).

    Defaults are those of the method in the space.
    """

    channels: int = 16
    """Channels of the first cells of the supernet; of a recurrent one the size of words and hidden
    states."""
    cells: int = 8
    """Cells of the supernet."""
    epochs: int = Training.epochs
    """Epochs of the search, or of each of its stages."""
    steps: int | None = None
    """End the search after this many steps."""
    batch_size: int = Training.batch_size
    """Images or pieces of text a step, for the weights and again for arch."""
    learning_rate: float = Training.learning_rate
    """SGD's for the weights at the start; falls along a cosine."""
    min_learning_rate: float = Training.min_learning_rate
    """SGD's at the end."""
    rate_schedule: Literal["cosine", "cosine_power"] = "cosine"
    """How the learning rate of the weights falls."""
    momentum: float = Training.momentum
    """SGD's in the search."""
    nesterov: bool = Training.nesterov
    """Whether that momentum looks ahead."""
    weight_decay: float = Training.weight_decay
    """Of the weights in the search."""
    clip: float | None = Training.clip
    """Largest norm of the weights' gradient in the search; None to clip nothing."""
    clip_virtual: bool = Training.clip_virtual
    """Whether virtual steps are clipped as real ones are: not in DARTS's convolutional search, but
    in its recurrent one."""
    arch_learning_rate: float = Training.arch_learning_rate
    """Of what moves arch."""
    arch_pace: Literal["published", "scaled"] = "published"
    """With scaled, the published rate of what moves arch is multiplied by the published epochs and
    divided by those of this search: a logit moves by about the rate a step, and gets as far."""
    arch_weight_decay: float = Training.arch_weight_decay
    """Of what moves arch: added to its gradient."""
    arch_b1: float = Training.arch_b1
    """Of what moves arch, where it takes b1, as Adam does."""
    arch_clip: float | None = Training.arch_clip
    """Largest norm of arch's gradient."""
    warmup: float = Training.warmup
    """Part of the epochs, from 0 to 1, in which arch stays as it is."""
    arch_every: int = Training.arch_every
    """Arch moves in every so many steps."""
    order: Literal["arch_first", "weights_first"] = "arch_first"
    """Which of the two steps comes first."""


@dataclasses.dataclass(frozen=True)
class PartsConfig(RunConfig):
    """What a search is made of. What is None is as the method has it."""

    optimizer: (
        Literal["first_order", "unrolled", "finite_differences", "implicit", "single_level"] | None
    ) = None
    """The gradient of arch, or one level in place of two."""
    unrolled_steps: int = 1
    """Virtual steps of the unrolled gradient."""
    arch_optimizer: str | None = None
    """What moves arch, by name: adam, or for the relaxation simplex exponentiated_gradient, or
    frank_wolfe in a search with a --target."""
    relax: str | None = None
    """Relaxation by name, perhaps with keywords: binary_gates:paths=two."""
    arch_init_scale: float | None = None
    """Standard deviation of the first logits, init_scale of RELAX."""
    temperature: float | None = None
    """Of the method or of RELAX at the start, where it has one."""
    temperature_end: float | None = None
    """At the end; the same throughout unless given."""
    temperature_schedule: Literal["linear", "exponential"] | None = None
    """How the temperature gets there."""
    edge_weights: bool = False
    """Whether edges into a node have weights of their own, as in PC-DARTS."""
    per_sample: bool = False
    """Whether every image of a batch has a draw of its own, where the relaxation draws."""
    perturb: Literal["random", "adversarial"] | None = None
    """Train the weights under a perturbed mix, as SmoothDARTS does."""
    perturb_radius: float | None = None
    """Largest change of a weight of the mix at the end; it grows from a tenth of that."""
    skip_dropout: float | None = None
    """Rate at which skip connections are dropped in the search; falls to zero."""
    search_drop_path: float | None = None
    """Rate at which ops are dropped in the search; grows from zero."""
    entropy: float | None = None
    """Weight of the mix's entropy in the loss of arch."""
    beta_decay: float | None = None
    """Weight of beta-DARTS's term at the end; grows from zero."""
    zero_one: float | None = None
    """Weight of FairDARTS's zero-one loss."""
    arch_l2: float | None = None
    """Weight of the logits' squares."""
    dirichlet_kl: float | None = None
    """Weight of DrNAS's distance from the uniform distribution."""
    select: str | None = None
    """How the genotype is read, by name, perhaps with keywords: top_edges:k=3."""
    rule: str | None = None
    """What runs between epochs, by name: a guard that may stop the search, or decisions that drop
    candidates. Perhaps with keywords: ranking:patience=3."""
    interval: int | None = None
    """Of the method or the rule, epochs between its decisions; greedy's are counted in a search of
    50 epochs."""
    samples: int | None = None
    """Of the method or the rule best_sample: how many architectures it evaluates."""
    sampled: bool = False
    """Run only the drawn op of each edge; for relaxations whose draws are one-hot."""
    partial_channels: int | None = None
    """K of PC-DARTS: candidates see 1/K of the channels."""


@dataclasses.dataclass(frozen=True)
class TargetConfig(RunConfig):
    """What the network may cost, and how it gets there."""

    target: str | None = None
    """What the network that is trained may cost: 2.5ms, 80mJ, 20Mmacs, 600kparams, or several with
    commas between."""
    table: str | None = None
    """Hardware costs for the target, by file or by the name of a table that comes with dnas; macs
    and params need none."""
    interpolate: bool = False
    """Whether costs of parts that were not measured may be interpolated between sizes."""
    penalty: str = "lagrangian"
    """How the search is pushed to the target, by name: by a multiplier that is learned (lagrangian,
    augmented_lagrangian, lightnas), or by a fixed form (hinge, relative, absolute, band, mnasnet,
    excess_power, log_power)."""
    penalty_weight: float | None = None
    """Rate of a multiplier, weight of a penalty, or power of a factor; the published one unless
    given."""
    equality: bool = False
    """Whether the target is to be reached from below too; otherwise it is a bound. Either way the
    genotype is brought there."""
    rounds: int = 6
    """How often the genotype is derived again at the most, where it is measured here and misses its
    target."""


@dataclasses.dataclass(frozen=True)
class MethodConfig(TargetConfig, PartsConfig, TrainingConfig):
    """Which search, and what comes after it."""

    method: str = "darts1"
    """Published method by name, perhaps with settings of its own: pc_darts:partial_channels=2."""
    retrain: bool = True
    """Whether the searched cell and the random ones are trained; if not, the run ends with the
    genotype and what it costs."""
    benchmark: pathlib.Path | None = None
    """CSV of a tabular benchmark of the space, such as NAS-Bench-201's: the report says where the
    searched cell stands."""
    genotype: str = ""
    """Train this architecture instead of searching one: a file, the name of a published one such as
    DARTS_V2, or its text."""
    remat: bool | None = None
    """Whether the search computes each edge, or each token, again for the gradient instead of
    keeping what it computed; the default depends on the space."""
    schedule: Literal["edges", "waves"] | None = None
    """How the supernet's edges run, one by one or all that leave a node at once; the default
    depends on the device."""
    compile_ahead: bool = True
    """Whether the networks of the random cells are compiled beside the search, on a CPU of several
    cores."""


@dataclasses.dataclass(frozen=True)
class SearchConfig(MethodConfig, RetrainingConfig):
    """Searches a cell, trains its network from scratch, does the same with random cells, and writes
    a report.

    Example: dnas search --dataset=cifar10 --data-dir=~/data --name=first
    """

    search_augment: str = "none"
    """What else changes training images in the search, as `augment` does in retraining."""
    random_cells: int = 3
    """How many random cells to retrain for comparison, and beside them the one with most
    multiply-adds; 0 for no comparison."""
    one_seed: bool = False
    """Whether all final networks are trained with --seed; otherwise random ones have a seed each,
    so that what training does is part of how they differ."""


# What differs from the published settings for CIFAR-10, which are the defaults above. The digits
# are small and few: the networks are small, digits are not flipped, and arch learns faster, since
# it has some 200 steps instead of 20,000.
PRESETS = {
    "digits": {
        "channels": 8,
        "cells": 3,
        "epochs": 20,
        "batch_size": 64,
        "arch_learning_rate": 3e-3,
        "learning_rate": 0.05,
        "retrain_channels": 16,
        "retrain_cells": 3,
        "retrain_epochs": 20,
        "retrain_batch_size": 64,
        "retrain_learning_rate": 0.05,
        "drop_path": 0.1,
        "auxiliary": 0.0,
        "cutout": 0,
        "crop_padding": 1,
        "flip": False,
        "evaluate_every": 1,
    },
    "cifar10": {},
    "cifar100": {},
}

# How final networks are trained where it is not as DARTS does: the training behind the tables of
# NAS-Bench-201, section 3 of https://arxiv.org/abs/2001.00326 and the code of AutoDL-Projects.
RETRAINING: dict[str, dict[str, Any]] = {
    "darts": {},
    "nasbench201": {
        "retrain_epochs": 200,
        "retrain_batch_size": 256,
        "retrain_learning_rate": 0.1,
        "retrain_schedule": "step",
        "retrain_nesterov": True,
        "retrain_weight_decay": 5e-4,
        "retrain_clip": None,
        "drop_path": 0.0,
        "auxiliary": 0.0,
        "cutout": 0,
    },
    # Layer-wise networks have no auxiliary head.
    "chain": {"auxiliary": 0.0},
    "recurrent": {},
}

_IMAGENET = {
    "label_smoothing": 0.1,
    "augment": "imagenet",
    "crop_padding": 0,
    "cutout": 0,
    "drop_path": 0.0,
    "stem": "imagenet",
}

# Published training of final networks on other images than those of CIFAR-10, for the families or
# the spaces that have one.
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "none": {},
    "imagenet": {
        # DARTS, with cnn/train_imagenet.py of its release; channels and epochs, which have other
        # defaults there, are those of the paper.
        "darts": _IMAGENET
        | {
            "retrain_channels": 48,
            "retrain_cells": 14,
            "retrain_epochs": 250,
            "retrain_batch_size": 128,
            "retrain_learning_rate": 0.1,
            "retrain_schedule": "exponential",
            "retrain_momentum": 0.9,
            "retrain_nesterov": False,
            "retrain_weight_decay": 3e-5,
            "retrain_clip": 5.0,
            "auxiliary": 0.4,
        },
        # search/imagenet_run_exp.py of its release, which does not decay the scales of norms.
        "proxylessnas": _IMAGENET
        | {
            "augment": "imagenet:hue=0.1",
            "retrain_epochs": 300,
            "retrain_batch_size": 256,
            "retrain_learning_rate": 0.05,
            "retrain_schedule": "step",
            "retrain_momentum": 0.9,
            "retrain_nesterov": True,
            "retrain_weight_decay": 4e-5,
            "retrain_clip": None,
            "auxiliary": 0.0,
        },
    },
}

# What a space needs at the small sizes that a data set's own settings have, where cells cannot be
# stacked as in DARTS.
SMALL_SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"cells": 3, "retrain_cells": 3, "drop_path": 0.0},
    "fbnet": {"channels": 8, "cells": 22, "retrain_channels": 8, "retrain_cells": 22},
    "proxylessnas": {"channels": 16, "cells": 21, "retrain_channels": 16, "retrain_cells": 21},
}

# And what a method needs there.
SMALL_METHODS: dict[str, dict[str, Any]] = {
    "drnas_progressive": {"channels": 24, "epochs": 10},
    "p_darts": {"cells": 3, "epochs": 10},
    "darts_pt": {"interval": 1},
    "random": {"epochs": 0},
    "trained_neighbours": {"epochs": 0, "learning_rate": 0.1},
}

Config = TypeVar("Config", bound=RunConfig)
# Settings of a method by the names that they have here.
NAMES = {"num_cells": "cells"}
_RETRAINING_NAMES = {name: name for name in ("drop_path", "auxiliary", "label_smoothing")}


def method_named(text: str) -> Published:
    """Returns the published method of a name, perhaps with settings of its own after it.

    Raises:
      ValueError: if it is not known.
    """
    name = named.name_of(text)
    named.check_known("method", name, METHODS)
    return METHODS[name]


class Layer(NamedTuple):
    """Settings of one origin, which go before those of the layers under it."""

    origin: str
    values: Mapping[str, Any]
    # A setting that is None by default stays so where only the method has a value for it.
    of_method: bool = False


LayersOf = Callable[[type[RunConfig], Sequence[str]], list[Layer]]


def layers(
    kind: type[RunConfig],
    method: str,
    space: str | None,
    recipe: str = "none",
) -> list[Layer]:
    """Returns the published settings: of the space, of DARTS, of the method, and of the recipe.

    Args:
      space: that of the method if None.

    Raises:
      ValueError: for a method, a space or a recipe that is not known, or that do not go together.
    """
    published = method_named(method)
    space = published.space if space is None else space
    named.check_known("space", space, dnas.SPACES)
    built = dnas.SPACES[space]
    sizes = {
        "channels": built.channels,
        "cells": built.num_cells,
        "retrain_channels": built.final_channels,
        "retrain_cells": built.final_cells,
    }
    found = [
        Layer("dnas", {"method": method}),  # unless it was given
        Layer(published.paper, {"space": space}),
        Layer(f"the space {space}", sizes | RETRAINING[built.family]),
    ]
    if issubclass(kind, MethodConfig):
        for origin, values in published.layers(built).items():
            renamed = {NAMES.get(name, name): value for name, value in values.items()}
            # Sizes that no paper of the method names are those of the space.
            kept = {name: renamed[name] for name in renamed if renamed[name] is not None}
            kept.pop("seed", None)  # that of the run
            found.append(Layer(origin, kept, of_method=True))
        training = {
            _RETRAINING_NAMES.get(name, f"retrain_{name}"): value
            for name, value in published.retraining.get(built.family, {}).items()
        }
        found.append(Layer(published.paper, training))
    found.append(Layer(f"the recipe {recipe}", _recipe_of(recipe, space)))
    return found


def small_settings(method: str, space: str | None) -> dict[str, Any]:
    """Returns what a method and a space need at small sizes."""
    published = method_named(method)
    space = published.space if space is None else space
    return SMALL_METHODS.get(published.name, {}) | SMALL_SPACES.get(space, {})


def _recipe_of(recipe: str, space: str) -> Mapping[str, Any]:
    named.check_known("recipe", recipe, RECIPES)
    if recipe == "none":
        return {}
    for name in (space, dnas.SPACES[space].family):
        if name in RECIPES[recipe]:
            return {"recipe": recipe, **RECIPES[recipe][name]}
    raise ValueError(
        f"no recipe {shown(recipe)} was published for networks of the space {space}; leave it out,"
        f" or choose a space of: {', '.join(RECIPES[recipe])}"
    )


def image_layers(kind: type[RunConfig], args: Sequence[str]) -> list[Layer]:
    """Returns the layers on the data set of images that a command line names.

    Raises:
      ValueError: for a data set, a method, a space or a recipe that is not known.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", default="digits")
    first.add_argument("--method", default="darts1")
    first.add_argument("--space")
    first.add_argument("--recipe", default="none")
    first.add_argument("--epochs", type=int)
    first.add_argument("--arch-pace")
    given = first.parse_known_args(list(args))[0]
    dataset = named.name_of(given.dataset)
    if dataset not in DATASETS:
        raise ValueError(
            f"data set {shown(dataset)} is not known; choose from: {', '.join(DATASETS)}, or use"
            " dnas.run_search with arrays"
        )
    own = PRESETS.get(dataset, {})
    if own:  # smaller than the published sizes
        own = own | small_settings(given.method, given.space)
    found = layers(kind, given.method, given.space, given.recipe)
    of_data = Layer(f"the data set {dataset}", {"dataset": given.dataset, **own})
    found = [*found, of_data, *_of_smaller_images(kind, given.dataset, found)]
    if given.arch_pace != "scaled":
        return found
    epochs = own.get("epochs") if given.epochs is None else given.epochs
    return [*found, _scaled_pace(given.method, given.space, epochs)]


def _of_smaller_images(kind: type[RunConfig], dataset: str, found: Sequence[Layer]) -> list[Layer]:
    """What is counted in pixels of CIFAR's images of 32x32, in those of its images of another
    size."""
    size = named.given_in(dataset).get("image_size")
    if not named.name_of(dataset).startswith("cifar") or not isinstance(size, int):
        return []
    fields: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kind)}
    fields |= {name: value for layer in found for name, value in layer.values.items()}
    pixels = {name: round(fields[name] * size / 32) for name in _IN_PIXELS if name in fields}
    return [Layer(f"images of {size}x{size}", pixels)]


_IN_PIXELS = ("crop_padding", "cutout")


def _scaled_pace(method: str, space: str | None, epochs: int | None) -> Layer:
    """The rate of what moves arch in a search of so many epochs, those of the method if None."""
    published = method_named(method)
    own = published.settings_in(dnas.SPACES[published.space if space is None else space])
    ours = own["epochs"] if epochs is None else epochs
    longer = max(own["epochs"], 1) / max(ours, 1)  # of no epochs there is no pace
    rate = {"arch_learning_rate": own["arch_learning_rate"] * longer}
    return Layer(f"{published.paper}, scaled to the epochs", rate, of_method=True)


def preset(
    kind: type[Config], dataset: str, method: str = "darts1", space: str | None = None
) -> Config:
    """Returns the defaults on a data set of images: the published sizes and settings of a space,
    before them those of a method, and before both a data set's own.

    Args:
      space: that of the method unless given.

    Raises:
      ValueError: for a data set, a method or a space that is not known.

    Example:
      >>> preset(SearchConfig, "cifar10", "pc_darts").batch_size
      256
    """
    words = [f"--dataset={dataset}", f"--method={method}"]
    return merged(kind, image_layers(kind, words + ([f"--space={space}"] if space else [])))


def merged(kind: type[Config], found: Sequence[Layer]) -> Config:
    """Returns the settings of all layers."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    settings = {}
    for layer in found:
        for name, value in layer.values.items():
            if name not in fields or (layer.of_method and fields[name].default is None):
                continue
            settings[name] = value
    return kind(**settings)


def parse(
    kind: type[Config],
    args: Sequence[str],
    default: Config | None = None,
    find_layers: LayersOf = image_layers,
) -> Config:
    """Returns the settings of a command line, on top of those of FILE, of `default`, or unless it
    is given of the layers that are found for the words.

    Yes-or-no settings may be given as --resume, --resume=1 or --resume=True.

    Raises:
      ValueError: for a file that cannot be read.
    """
    words = [*_words_of_file(args), *args]
    if default is None:
        default = merged(kind, find_layers(kind, words))
    return read_words(kind, words, default)


def _words_of_file(args: Sequence[str]) -> list[str]:
    """The settings of FILE as words of a command line."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--file", type=pathlib.Path)
    path = first.parse_known_args(list(args))[0].file
    if path is None:
        return []
    try:
        settings = tomllib.loads(read_text_file(path.expanduser(), most_bytes=2**14))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"--file={path} cannot be read: {error}; it holds a line name = value for each setting"
        ) from None
    for name, value in settings.items():
        if not isinstance(value, (str, int, float)):
            raise ValueError(
                f"--file={path}: {shown(name)} is {shown(value)}, not a number, true or false, or"
                " text; the file holds a line name = value for each setting"
            )
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


class Setting(NamedTuple):
    """A setting, its value as text, and where that comes from."""

    name: str
    value: str
    origin: str


def explained(
    kind: type[RunConfig], args: Sequence[str], find_layers: LayersOf = image_layers
) -> list[Setting]:
    """Returns every setting of a command line, those that only the method has included."""
    from_file = _words_of_file(args)
    found = find_layers(kind, [*from_file, *args])
    config = parse(kind, args, None, find_layers)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(kind)}
    origins = dict.fromkeys(values, "dnas")
    for layer in found:
        for name, value in layer.values.items():
            if values.get(name) is None or (layer.of_method and name not in origins):
                values[name] = value
            origins[name] = layer.origin
    if isinstance(config, MethodConfig):
        own = named.given_in(config.method)
        values |= own
        origins |= dict.fromkeys(own, "the command line")
    for origin, words in (("the file", from_file), ("the command line", args)):
        for name in _named_in(words):
            origins[name] = origin
    return [
        Setting(name, str(value), origins[name])
        for name, value in values.items()
        if type(value) in _PLAIN or isinstance(value, pathlib.Path)
    ]


# Parts of a method, which are objects, are not settings of a command line.
_PLAIN = (int, float, bool, str, tuple, type(None))


def _named_in(words: Sequence[str]) -> list[str]:
    return [
        word.removeprefix("--").partition("=")[0].replace("-", "_")
        for word in words
        if word.startswith("--")
    ]


def check(config: RunConfig) -> None:
    """Raises ValueError for a number that no run can have, before any work."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None:
            continue
        whole_from_one = field.type in (int, int | None) and field.name not in _FROM_ZERO
        if whole_from_one and value < 1:
            raise ValueError(f"{field.name} must be at least 1, got {value}")
        number = field.type in (float, float | None) or field.name in _FROM_ZERO
        if number and not 0 <= value < 2**31:
            raise ValueError(
                f"{field.name} must be a number from 0 on, and not a huge one, got {value}"
            )
    for name in ("clip", "retrain_clip", "arch_clip"):
        if getattr(config, name, None) == 0:
            raise ValueError(f"{name} must be greater than 0, got 0; give None to clip nothing")
    for name in ("momentum", "retrain_momentum"):
        if not getattr(config, name, 0) < 1:
            raise ValueError(f"{name} must be less than 1, got {getattr(config, name)}")
    if isinstance(config, MethodConfig) and config.warmup > 1:
        raise ValueError(f"warmup is a part of the epochs, from 0 to 1, got {config.warmup}")
    if config.resume and config.overwrite:
        raise ValueError("resume continues a run and overwrite moves it away: give one of them")


_FROM_ZERO = ("seed", "cutout", "crop_padding", "random_cells", "epochs")
