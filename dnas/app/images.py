"""The job on images: its data set by name, and how its networks are trained and reported."""

from functools import partial

import jax
import optax

import dnas
from dnas import tasks
from dnas.app import exporting, named, phases
from dnas.app.config import RetrainingConfig, SearchConfig
from dnas.app.datasets import Dataset, load
from dnas.app.durable import digest_of_arrays
from dnas.app.pages import write_report
from dnas.space import check_inputs
from dnas.tasks.data import Augmentation, statistics


def make_job(config: RetrainingConfig, run_of: phases.RunOf) -> phases.Job:
    """Returns the job of the settings: names become objects here. The run's folder is opened last,
    once all else is valid.

    Raises:
      ValueError: for names that do not exist, data that is not there, and sizes that do not fit,
        before any work.
    """
    named.check_known("space", config.space, dnas.SPACES)
    space = dnas.SPACES[config.space]
    check_inputs(space, "images")
    if not config.drop_path < 1:
        raise ValueError(f"drop_path is a rate below 1, got {config.drop_path}")
    dataset = shrink(load(config.dataset, config.data_dir), config)
    train = dataset.train_images, dataset.train_labels
    shape = dataset.train_images.shape[1:]
    in_search = config.search_augment if isinstance(config, SearchConfig) else "none"
    augmentation = Augmentation(*statistics(dataset.train_images), config.crop_padding, config.flip)
    sizes = {
        "channels": config.retrain_channels,
        "num_cells": config.retrain_cells,
        "num_classes": dataset.num_classes,
        "image_size": shape[:2],
        "image_channels": shape[-1],
        "stem": config.stem,
    }
    count = partial(dnas.count_network, space, **sizes)
    auxiliary = config.auxiliary > 0
    # Refuses sizes that final networks cannot have.
    count(dnas.random_genotype(jax.random.key(0), space), auxiliary=auxiliary)
    job = phases.Job(
        config=config,
        space=space,
        task=tasks.images(
            *train,
            num_classes=dataset.num_classes,
            augmentation=augmentation._replace(
                policy=named.make(tasks.AUGMENTATIONS, "search_augment", in_search)
            ),
        ),
        final_task=tasks.images(
            *train,
            test=(dataset.test_images, dataset.test_labels),
            num_classes=dataset.num_classes,
            augmentation=augmentation._replace(
                cutout=config.cutout,
                policy=named.make(tasks.AUGMENTATIONS, "augment", config.augment),
            ),
            label_smoothing=config.label_smoothing,
        ),
        sizes=sizes,
        network_options={
            "auxiliary": auxiliary,
            "stem": config.stem,
            "remat": config.retrain_remat,
            "dtype": phases.dtype_of(config),
        },
        training={
            "optimizer": partial(_final_optimizer, config),
            "drop_path": config.drop_path,
            "auxiliary_weight": config.auxiliary,
            "evaluate_every": config.evaluate_every,
        },
        count=lambda genotype: count(genotype)._asdict(),
        write=partial(exporting.write_network, image_shape=shape),
        facts={
            "train_images": len(dataset.train_labels),
            "test_images": len(dataset.test_labels),
        },
        reads={"data": digest_of_arrays(*train, dataset.test_images, dataset.test_labels)},
        report=write_report,
    )
    return phases.check_job(job, run_of)


def shrink(dataset: Dataset, config: RetrainingConfig) -> Dataset:
    """Returns the data set with only the first `images` and `test_images`, which are in random
    order in all data sets."""
    train, test = config.images, config.test_images
    return dataset._replace(
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
    )


def _final_optimizer(
    config: RetrainingConfig, epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    return dnas.final_sgd(
        epochs,
        steps_per_epoch,
        learning_rate=config.retrain_learning_rate,
        momentum=config.retrain_momentum,
        nesterov=config.retrain_nesterov,
        weight_decay=config.retrain_weight_decay,
        clip=config.retrain_clip,
        schedule=config.retrain_schedule,
    )
