"""PC-DARTS, https://arxiv.org/abs/1907.05737."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import DARTS_IN_NASBENCH201, Training, alternating
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
            "learn_edges": True,
            "batch_size": 256,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
            "arch_learning_rate": 6e-4,
            "warmup": 15 / 50,
        },
        # a baseline of DrNAS, 201-space/train_search.py --method darts --k 4 of its release
        "nasbench201": {
            **DARTS_IN_NASBENCH201,
            "relaxation": softmax(),
            "partial_channels": 4,
            "learn_edges": False,
            "epochs": 100,
        },
    },
    retraining={"darts": {"drop_path": 0.3}},
)
def pc_darts(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    partial_channels: int,
    learn_edges: bool,
) -> Method:
    """Returns the search on a part of the channels, with a weight for every edge beside those of
    its ops.

    In NAS-Bench-201, which the paper does not search, it is what the release of DrNAS compares
    itself with: without weights of edges, since every edge keeps an op there.

    Args:
      relaxation: of the ops of an edge.
      partial_channels: K; an edge computes 1 / K of the channels, the others go past it.
      learn_edges: whether edges have weights.

    Example:
      >>> import dnas
      >>> method = pc_darts(dnas.SPACES["darts"], steps_per_epoch=97, partial_channels=2)
      >>> method.options, method.training.batch_size
      ({'partial_channels': 2}, 256)
    """
    del space
    return Method(
        edge_weights(relaxation) if learn_edges else relaxation,
        alternating(training),
        options={"partial_channels": partial_channels},
    )
