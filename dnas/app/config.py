"""The settings of a run, and how the command line is made from them."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import dnas
from dnas.app.datasets import DATASETS
from dnas.app.methods import METHODS
from dnas.app.words import read_words


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run has, whatever it does."""

    name: str | None = None
    """Name of the run's folder; made from the settings unless given."""
    runs: pathlib.Path = pathlib.Path("runs")
    """Folder of all runs."""
    seed: int = 0
    """Seed of everything random."""
    resume: bool = False
    """Continue a run that was interrupted; the result is the same as without the interruption."""
    overwrite: bool = False
    """Delete a run of the same name first."""
    checkpoint_seconds: float = 20.0
    """Least time between checkpoints, which are written at the end of an epoch, and within long
    ones every five minutes."""


@dataclasses.dataclass(frozen=True)
class RetrainConfig(RunConfig):
    """Data, and the training of final networks."""

    dataset: str = "digits"
    """Data set by name: digits (8x8 images, part of scikit-learn), cifar10 or cifar100. Other
    defaults depend on it."""
    data_dir: pathlib.Path | None = None
    """Folder that holds the data set in its original layout; what is missing is downloaded to it
    (or to a cache)."""
    images: int | None = None
    """Use only this many training images."""
    test_images: int | None = None
    """Use only this many test images."""
    space: str = "darts"
    """Search space by name."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """What networks compute in. Weights, norms' statistics, losses and updates are float32 either
    way."""
    retrain_remat: bool = False
    """Whether retraining computes each cell again for the gradient instead of keeping what it
    computed: less memory."""

    onnx: bool = False
    """Whether the network is written as network.onnx too, checked against JAX; its weights are
    random if --retrain=no."""

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
    """SGD's at the start; falls to zero along a cosine."""
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
    evaluate_every: int = 10
    """Epochs between scores on the test images."""
    momentum: float = 0.9
    """SGD's, in search and retraining."""
    nesterov: bool = False
    """Whether that momentum looks ahead."""
    weight_decay: float = 3e-4
    """Of the weights, in search and retraining."""
    clip: float = 5.0
    """Largest norm of the weights' gradient, in search and retraining."""


@dataclasses.dataclass(frozen=True)
class RetrainCommand(RetrainConfig):
    """Trains the network of a genotype from scratch and scores it on the test images.

    Example: dnas retrain --genotype=DARTS_V2 --dataset=digits
    """

    genotype: str = ""
    """A file (genotype.json or .txt of a run), the name of a published cell such as DARTS_V2, or
    the genotype's text."""


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """What a search is made of, whatever its networks read."""

    relax: str = "softmax"
    """Relaxation by name, perhaps with keywords: binary_gates:paths=two."""
    arch_init_scale: float | None = None
    """Standard deviation of the first logits, init_scale of the relaxation."""
    temperature: float | None = None
    """Of the relaxation at the start, where it has one."""
    temperature_end: float | None = None
    """At the end; the same throughout unless given."""
    temperature_schedule: Literal["linear", "exponential"] = "linear"
    """How the temperature gets there."""
    edge_weights: bool = False
    """Whether edges into a node have weights of their own, as in PC-DARTS."""
    per_sample: bool = False
    """Whether every image of a batch has a draw of its own, where the relaxation draws."""
    perturb: Literal["random", "adversarial"] | None = None
    """Train the weights under a perturbed mix, as SmoothDARTS does."""
    perturb_radius: float = 0.3
    """Largest change of a weight of the mix at the end; it grows from a tenth of that."""
    skip_dropout: float = 0.0
    """Rate at which skip connections are dropped in the search; falls to zero."""
    search_drop_path: float = 0.0
    """Rate at which ops are dropped in the search; grows from zero."""
    optimizer: Literal[
        "first_order", "unrolled", "finite_differences", "implicit", "single_level", "rarts"
    ] = "first_order"
    """How the two levels are optimised."""
    unrolled_steps: int = 1
    """Virtual steps of the unrolled gradient."""
    clip_virtual: bool = False
    """Whether virtual steps are clipped as real ones are: not in DARTS's convolutional search, but
    in its recurrent one."""
    order: Literal["arch_first", "weights_first"] = "arch_first"
    """Which of the two steps comes first."""
    warmup: float = 0.0
    """Part of the epochs, from 0 to 1, in which arch stays as it is."""
    arch_every: int = 1
    """Arch moves in every so many steps."""
    arch_optimizer: str = "adam"
    """What moves arch, by name: adam, or for the relaxation simplex exponentiated_gradient, or
    frank_wolfe in a search with a --target."""
    arch_b1: float | None = None
    """Of the arch optimiser, where it takes b1, as Adam does."""
    rate_schedule: Literal["cosine", "cosine_power"] = "cosine"
    """How the learning rate of the weights falls."""
    entropy: float = 0.0
    """Weight of the mix's entropy in the loss of arch."""
    beta_decay: float = 0.0
    """Weight of beta-DARTS's term at the end; grows from zero."""
    zero_one: float = 0.0
    """Weight of FairDARTS's zero-one loss."""
    arch_l2: float = 0.0
    """Weight of the logits' squares."""
    dirichlet_kl: float = 0.0
    """Weight of DrNAS's distance from the uniform distribution."""
    select: str = "default"
    """How the genotype is read, by name, perhaps with keywords, top_edges:k=3; by default as the
    papers of the space do."""
    rule: str | None = None
    """What runs between epochs, by name: a guard that may stop the search, or decisions that drop
    candidates. Perhaps with keywords: ranking:patience=3."""
    interval: int | None = None
    """Of the rule, epochs between its decisions; greedy's are counted in a search of 50 epochs."""
    samples: int | None = None
    """Of the rule best_sample, num_samples: how many architectures it evaluates."""
    stages: Literal["drnas_progressive", "p_darts", "darts_pt", "random"] | None = None
    """Searches of several stages."""
    sampled: bool = False
    """Run only the drawn op of each edge; for relaxations whose draws are one-hot."""
    partial_channels: int = 1
    """K of PC-DARTS: candidates see 1/K of the channels; 1 for all of them."""
    schedule: Literal["edges", "waves"] | None = None
    """How the supernet's edges run, one by one or all that leave a node at once; the default
    depends on the device."""
    compile_ahead: bool = True
    """Whether the networks of the random cells are compiled beside the search, on a CPU of several
    cores."""
    retrain: bool = True
    """Whether the searched cell and the random ones are trained; if not, the run ends with the
    genotype and what it costs."""
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
    benchmark: pathlib.Path | None = None
    """CSV of a tabular benchmark of the space, such as NAS-Bench-201's: the report says where the
    searched cell stands."""
    genotype: str = ""
    """Train this architecture instead of searching one: a file, the name of a published one such as
    DARTS_V2, or its text."""


@dataclasses.dataclass(frozen=True)
class SearchConfig(MethodConfig, RetrainConfig):
    """Searches a cell, trains its network from scratch, does the same with random cells, and writes
    a report.

    Example: dnas search --dataset=cifar10 --data-dir=~/data --name=first
    """

    method: str = "darts1"
    """Published method by name; its settings are the defaults of those below."""
    channels: int = 16
    """Channels of the first cells of the supernet."""
    cells: int = 8
    """Cells of the supernet."""
    remat: bool | None = None
    """Whether the search computes each edge again for the gradient instead of keeping what it
    computed; the default depends on the space."""
    epochs: int = 50
    """Epochs of the search, each over half of the training images."""
    steps: int | None = None
    """End the search after this many steps."""
    batch_size: int = 64
    """Images a step, for the weights and again for arch."""
    learning_rate: float = 0.025
    """SGD's for the weights at the start; falls along a cosine."""
    min_learning_rate: float = 0.001
    """SGD's at the end."""
    arch_learning_rate: float = 3e-4
    """Adam's for arch."""
    arch_weight_decay: float | None = None
    """Of the arch optimiser: added to the gradient of arch."""
    random_cells: int = 3
    """How many random cells to retrain for comparison."""


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

# What the papers of a space do differently from DARTS's: the training behind the tables of
# NAS-Bench-201, and its searches.
SPACE_SETTINGS: dict[str, dict[str, Any]] = {
    "nasbench201": {
        "order": "weights_first",
        "nesterov": True,
        "weight_decay": 5e-4,
        "retrain_epochs": 200,
        "retrain_batch_size": 256,
        "retrain_learning_rate": 0.1,
        "drop_path": 0.0,
        "auxiliary": 0.0,
        "cutout": 0,
    },
    # Layer-wise networks have no auxiliary head.
    "fbnet": {"auxiliary": 0.0},
    "proxylessnas": {"auxiliary": 0.0},
}

# What a space needs at the small sizes that a data set's own settings have, where cells cannot be
# stacked as in DARTS.
SMALL_SPACES: dict[str, dict[str, Any]] = {
    "nasbench201": {"cells": 3, "retrain_cells": 3, "drop_path": 0.0},
    "fbnet": {"channels": 8, "cells": 22, "retrain_channels": 8, "retrain_cells": 22},
    "proxylessnas": {"channels": 16, "cells": 21, "retrain_channels": 16, "retrain_cells": 21},
}

Config = TypeVar("Config", bound=RunConfig)


def preset(
    kind: type[Config], dataset: str, method: str = "darts1", space: str | None = None
) -> Config:
    """Returns the defaults: the published sizes and settings of a space, before them those of a
    method, and before both a data set's own.

    Args:
      space: that of the method unless given.

    Raises:
      ValueError: for a data set, a method or a space that is not known.

    Example:
      >>> preset(SearchConfig, "digits", "pc_darts").partial_channels
      4
    """
    if dataset not in DATASETS:
        raise ValueError(
            f"data set {dataset!r} is not known; choose from: {', '.join(DATASETS)}, or use"
            " dnas.run_search with arrays"
        )
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known; choose from: {', '.join(METHODS)}")
    space = METHODS[method].settings.get("space", "darts") if space is None else space
    if space not in dnas.SPACES:
        raise ValueError(f"space {space!r} is not known; choose from: {', '.join(dnas.SPACES)}")
    built, own = dnas.SPACES[space], PRESETS.get(dataset, {})
    settings = {
        "channels": built.channels,
        "cells": built.num_cells,
        "retrain_channels": built.final_channels,
        "retrain_cells": built.final_cells,
        **SPACE_SETTINGS.get(space, {}),
        **METHODS[method].settings,
        **own,
    }
    if own:
        settings |= METHODS[method].small | SMALL_SPACES.get(space, {})
    names = {field.name for field in dataclasses.fields(kind)}
    settings |= {"method": method, "space": space, "dataset": dataset}
    return kind(**{name: value for name, value in settings.items() if name in names})


def parse(kind: type[Config], args: Sequence[str], default: Config | None = None) -> Config:
    """Returns the settings of a command line, on top of `default`, or of the data set's own unless
    it is given.

    Yes-or-no settings may be given as --resume, --resume=1 or --resume=True.
    """
    if default is None:
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--dataset", default="digits")
        first.add_argument("--method", default="darts1")
        first.add_argument("--space")
        given = first.parse_known_args(list(args))[0]
        default = preset(kind, given.dataset, given.method, given.space)
    config = read_words(kind, args, default)
    # make passes ~ on as it is.
    paths = {name: getattr(config, name, None) for name in ("data_dir", "runs", "benchmark")}
    return dataclasses.replace(
        config, **{name: path.expanduser() for name, path in paths.items() if path}
    )


def check(config: RunConfig) -> None:
    """Raises ValueError for a number that no run can have, before any work."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        whole_from_one = field.type in (int, int | None) and field.name not in _FROM_ZERO
        if whole_from_one and value is not None and value < 1:
            raise ValueError(f"{field.name} must be at least 1, got {value}")
        number = (
            field.type is float
            or field.name in _FROM_ZERO
            or (field.type == float | None and value is not None)
        )
        if number and not 0 <= value < 2**31:
            raise ValueError(
                f"{field.name} must be a number from 0 on, and not a huge one, got {value}"
            )
    if not config.clip > 0:
        raise ValueError(
            f"clip must be greater than 0, got {config.clip}; give a large number to clip nothing"
        )
    if not config.momentum < 1:
        raise ValueError(f"momentum must be less than 1, got {config.momentum}")
    if isinstance(config, MethodConfig) and config.warmup > 1:
        raise ValueError(f"warmup is a part of the epochs, from 0 to 1, got {config.warmup}")
    if config.resume and config.overwrite:
        raise ValueError("resume continues a run and overwrite deletes it: give one of them")


_FROM_ZERO = ("seed", "cutout", "crop_padding", "random_cells")
