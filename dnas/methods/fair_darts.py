"""FairDARTS, https://arxiv.org/abs/1911.12126."""

from dnas import arch_losses
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import sigmoid
from dnas.selection import threshold
from dnas.space import SearchSpace

# fairdarts/train_search.py of the release
_SETTINGS = {
    "zero_one": 10.0,
    "least": 0.85,
    "batch_size": 128,
    "learning_rate": 0.005,
    "arch_learning_rate": 3e-3,
    "arch_b1": 0.9,
}


@published(
    "FairDARTS",
    "https://arxiv.org/abs/1911.12126",
    settings={"darts": _SETTINGS, "chain": _SETTINGS},
    space="darts_without_none",
)
def fair_darts(space: SearchSpace, training: Training, *, zero_one: float, least: float) -> Method:
    """Returns the search in which ops do not compete: a sigmoid for each, driven to 0 or 1.

    The paper's second space is a chain like ProxylessNAS's, whose search is not released; it has
    the same settings here.

    Args:
      zero_one: of the loss that drives sigmoids to 0 or 1.
      least: the sigmoid that an edge needs to be kept, of at most two a node.

    Differs from the release: a node none of whose edges is strong enough keeps its strongest one,
    without which there would be no network.

    Example:
      >>> import dnas
      >>> fair_darts(dnas.SPACES["darts_without_none"], steps_per_epoch=195).training.batch_size
      128
    """
    del space
    return Method(
        sigmoid(),
        alternating(training),
        arch_losses=[(zero_one, arch_losses.zero_one())],
        select=threshold(least),
    )
