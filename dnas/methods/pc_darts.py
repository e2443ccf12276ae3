"""PC-DARTS, https://arxiv.org/abs/1907.05737."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, edge_weights, softmax
from dnas.space import SearchSpace


@published(
    "PC-DARTS",
    "https://arxiv.org/abs/1907.05737",
    settings={
        # train_search.py of the release
        "darts": {
            "relaxation": softmax(),
            "partial_channels": 4,
            "batch_size": 256,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
            "warmup": 15 / 50,
        },
    },
    retraining={"darts": {"drop_path": 0.3}},
)
def pc_darts(
    space: SearchSpace, training: Training, *, relaxation: Relaxation, partial_channels: int
) -> Method:
    """Returns the search on a part of the channels, with a weight for every edge beside those of
    its ops.

    Args:
      relaxation: of the ops of an edge.
      partial_channels: K; an edge computes 1 / K of the channels, the others go past it.

    Example:
      >>> import dnas
      >>> method = pc_darts(dnas.SPACES["darts"], steps_per_epoch=97, partial_channels=2)
      >>> method.options, method.training.batch_size
      ({'partial_channels': 2}, 256)
    """
    del space
    return Method(
        edge_weights(relaxation),
        alternating(training),
        options={"partial_channels": partial_channels},
    )
