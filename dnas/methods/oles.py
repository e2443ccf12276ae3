"""OLES, operation-level early stopping."""

import functools
from typing import Any

import jax

from dnas import bilevel
from dnas.base import PyTree
from dnas.bilevel import BilevelOptimizer
from dnas.cells.edge_ops import candidates_of
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, arch_optimizer, check_unused, weight_optimizer
from dnas.relax import Relaxation, softmax
from dnas.space import SearchSpace

# train_search.py of the release, PasaLab/oles: DARTS's settings but for these
_OWN = {"relaxation": softmax(), "threshold": 0.4, "decision_steps": 20, "added": True}
_UNUSED = ("single_level", "arch_gradient", "warmup", "arch_every", "clip_virtual")


@published(
    "OLES, operation-level early stopping",
    "https://openreview.net/forum?id=yAOwkf4FyL",
    settings={"darts": _OWN, "nasbench201": _OWN},
)
def oles(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    threshold: float,
    decision_steps: int,
    added: bool,
) -> Method:
    """Returns DARTS of the first order in which the weights of an op, on an edge of a cell, are no
    longer trained once their gradients on training and validation data disagree: algorithm 1.

    Watched are ops with weights, but not the skip connections that halve an image.

    Args:
      threshold: the least alignment of the gradients, in the mean of `decision_steps` steps.
      decision_steps: steps between decisions.
      added: as in `dnas.bilevel.op_stopping`: what the released code compares, or the paper's
        equation.

    Raises:
      ValueError: for settings of another alternation.

    Example:
      >>> import dnas
      >>> method = oles(dnas.SPACES["nasbench201"], steps_per_epoch=390, threshold=0.3)
      >>> method.training.order
      'weights_first'

    Differs from the release: it compares the gradient of a validation batch with that of the
    training batch of the step before, here of the same step, so that no gradient is kept. It adds
    up 21 values and divides by 20. In older versions of PyTorch its stopped weights still decay;
    here they stay as they are. It logs the genotype of the epoch with the best validation accuracy;
    here it is the last one. Its code for NAS-Bench-201 is not released; settings there are those of
    the benchmark for DARTS, and biases, whose gradient the norm takes away, are not watched.
    """
    del space
    check_unused(training, "OLES", _UNUSED)
    rule = {"threshold": threshold, "interval": decision_steps, "added": added}
    return Method(relaxation, functools.partial(_stopping, training, rule))


def _stopping(
    training: Training, rule: dict[str, Any], epochs: int, steps_per_epoch: int
) -> BilevelOptimizer:
    return bilevel.op_stopping(
        weight_optimizer(training, epochs, steps_per_epoch, clip=training.clip),
        arch_optimizer(training),
        _watched,
        clip=training.clip,
        order=training.order,
        **rule,
    )


def _watched(weights: PyTree) -> PyTree:
    def but_skips(name: str) -> str:
        return "" if name.endswith("-skip_connect") else name

    return jax.tree.map(but_skips, candidates_of(weights))
