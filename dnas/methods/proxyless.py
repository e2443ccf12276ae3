"""ProxylessNAS, https://arxiv.org/abs/1812.00332."""

import dataclasses
from typing import Literal

import optax

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating, arch_optimizer
from dnas.relax import binary_gates, keep_pair_mass
from dnas.space import SearchSpace

# search/imagenet_arch_search.py of the release: 40 epochs of warm-up, and 120 epochs
_SETTINGS = {
    "paths": "full",
    "warmup_learning_rate": 0.05,
    "warmup": 40 / 160,
    "epochs": 160,
    "batch_size": 256,
    "learning_rate": 0.025,
    "min_learning_rate": 0.0,
    "nesterov": True,
    "weight_decay": 4e-5,
    "clip": None,
    "order": "weights_first",
    "arch_every": 5,
    "arch_learning_rate": 1e-3,
    "arch_b1": 0.0,
    "arch_weight_decay": 0.0,
}


@published(
    "ProxylessNAS",
    "https://arxiv.org/abs/1812.00332",
    settings={"chain": _SETTINGS, "darts": _SETTINGS},
    # search/imagenet_run_exp.py
    retraining={
        "chain": {
            "epochs": 300,
            "batch_size": 256,
            "learning_rate": 0.05,
            "nesterov": True,
            "weight_decay": 4e-5,
            "clip": None,
            "label_smoothing": 0.1,
            "drop_path": 0.0,
        },
    },
    space="proxylessnas",
)
def proxyless(
    space: SearchSpace,
    training: Training,
    *,
    paths: Literal["full", "two"],
    warmup_learning_rate: float,
) -> Method:
    """Returns the search with binary gates: one block of each layer is active, drawn anew in every
    step, and the gradient of the gates moves the probabilities.

    The weights have a warm-up, in which arch stays uniform, with a cosine of its own; then another
    cosine, in whose first epoch arch rests as well. In DARTS's spaces it is the same on cells,
    which the paper does not search; its space for CIFAR-10 is not released.

    Args:
      paths: "full", every gate gets a gradient, as the code has it by default; or "two" drawn ones,
        as the paper saves memory.
      warmup_learning_rate: of the weights at the start of the warm-up, where it falls to zero.

    Differs from the release: no label smoothing in the search; halves of the images for weights and
    arch, where 50,000 of ImageNet's 1.28 million are for arch; no loss on latency unless a cost or
    a target is given, which with two paths moves all logits by the gradient of the expectation,
    where the code moves those of the two. Weights of blocks that are not drawn decay and keep their
    momentum, as all do.

    Example:
      >>> import dnas
      >>> method = proxyless(dnas.SPACES["proxylessnas"], steps_per_epoch=100)
      >>> method.training.epochs, method.training.weight_decay
      (160, 4e-05)
    """
    del space
    moves = arch_optimizer(training)
    if paths == "two":
        moves = keep_pair_mass(moves)

    def two_cosines(epochs: int, steps_per_epoch: int) -> optax.Schedule:
        before = round(training.warmup * epochs) * steps_per_epoch
        after = max(epochs * steps_per_epoch - before, 1)
        joint = optax.cosine_decay_schedule(
            training.learning_rate, after, training.min_learning_rate / training.learning_rate
        )
        if not before:
            return joint
        warm = optax.cosine_decay_schedule(warmup_learning_rate, before)
        return optax.join_schedules([warm, joint], [before])

    resting = training
    if training.warmup:
        rests = min(training.warmup + 1 / max(training.epochs, 1), 1.0)
        resting = dataclasses.replace(training, warmup=rests)
    return Method(binary_gates(paths=paths), alternating(resting, moves, schedule=two_cosines))
