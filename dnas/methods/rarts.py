"""RARTS, https://arxiv.org/abs/2008.03901."""

import functools

from dnas import bilevel
from dnas.bilevel import BilevelOptimizer
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, arch_optimizer, check_unused, weight_optimizer
from dnas.relax import Relaxation, softmax
from dnas.space import SearchSpace

_OURS = {"relaxation": softmax(), "inner_weight": 1.0, "coupling": 10.0}
_UNUSED = ("single_level", "arch_gradient", "warmup", "arch_every", "order", "clip_virtual")


@published(
    "RARTS",
    "https://arxiv.org/abs/2008.03901",
    settings={
        "darts": _OURS,
        # without the order of steps of the benchmark: it has its own
        "nasbench201": {**_OURS, "order": "arch_first"},
        "chain": _OURS,
    },
)
def rarts(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    inner_weight: float,
    coupling: float,
) -> Method:
    """Returns the search with a second set of weights, for the half of the data that arch learns
    from, tied to the first by a spring: a step of each and then one of arch, all first-order.

    Args:
      inner_weight: lambda of the paper, of the loss of the first set.
      coupling: beta of the paper, the strength of the spring.

    Raises:
      ValueError: for settings of an alternation of two steps.

    Example:
      >>> import dnas
      >>> method = rarts(dnas.SPACES["nasbench201"], steps_per_epoch=390, coupling=5.0)
      >>> method.training.nesterov
      True

    Differs from the release: none was found. The two parameters are ours, see `dnas.bilevel.rarts`,
    and everything else is DARTS's.
    """
    del space
    check_unused(training, "RARTS", _UNUSED)
    return Method(relaxation, functools.partial(_rarts, training, inner_weight, coupling))


def _rarts(
    training: Training, inner_weight: float, coupling: float, epochs: int, steps_per_epoch: int
) -> BilevelOptimizer:
    return bilevel.rarts(
        weight_optimizer(training, epochs, steps_per_epoch, clip=training.clip),
        arch_optimizer(training),
        inner_weight=inner_weight,
        coupling=coupling,
    )
