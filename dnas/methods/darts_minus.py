"""DARTS-, https://arxiv.org/abs/2009.01027."""

import optax
from jax.typing import ArrayLike

from dnas.base import Array, epoch_of
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, auxiliary_skip, softmax
from dnas.space import SearchSpace

# scripts/run_darts_minus.sh of the release: DARTS's settings but for these
_OWN = {"relaxation": softmax(), "skip_weight": 1.0}


@published(
    "DARTS-",
    "https://arxiv.org/abs/2009.01027",
    settings={"darts": _OWN, "nasbench201": _OWN},
)
def darts_minus(
    space: SearchSpace, training: Training, *, relaxation: Relaxation, skip_weight: float
) -> Method:
    """Returns DARTS with a skip connection beside the candidates of every edge, whose weight falls
    to zero: what a skip does for training is no longer a reason to choose it.

    Args:
      skip_weight: beta of the paper in the first epoch; it falls linearly, once an epoch.

    Raises:
      ValueError: for a space that has an edge without skip_connect.

    Example:
      >>> import dnas
      >>> method = darts_minus(dnas.SPACES["darts"], steps_per_epoch=390, skip_weight=0.5)
      >>> method.training.epochs
      50

    Differs from the release: where an edge halves the image, its auxiliary skip has weights of its
    own, here those of the candidate skip, so that the supernet is that of DARTS; S1 of RobustDARTS,
    in which some edges have no skip connection, is refused. Its code for NAS-Bench-201 is not
    released; settings there are those of the benchmark for DARTS, and all skips are identities.
    """
    for kind, choices in space.choices.items():
        if not all("skip_connect" in choices.options_of(row) for row in range(len(choices.rows))):
            raise ValueError(
                f"DARTS- needs skip_connect among the ops of every edge, and {kind!r} of the space"
                f" {space.name!r} has an edge without it; take a space such as 'darts'"
            )
    raised = auxiliary_skip(relaxation, falling_weight(training, skip_weight))
    return Method(raised, alternating(training))


def falling_weight(training: Training, start: float) -> optax.Schedule:
    """Returns the weight start * (n - e) / n of epoch e of n.

    Example:
      >>> weight = falling_weight(Training(steps_per_epoch=10, epochs=50), 1.0)
      >>> [round(float(weight(step)), 2) for step in (0, 9, 10, 499)]
      [1.0, 1.0, 0.98, 0.02]
    """

    def weight(step: ArrayLike) -> Array:
        epoch = epoch_of(step, training.steps_per_epoch)
        return start * (training.epochs - epoch) / training.epochs

    return weight
