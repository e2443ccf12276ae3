"""GAEA, https://arxiv.org/abs/2004.07802."""

from collections.abc import Hashable

import optax

from dnas.base import Arch, PyTree
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import exponentiated_gradient, simplex, simplex_edge_weights
from dnas.space import SearchSpace

_ON_THE_SIMPLEX = {
    "partial_channels": 1,
    "learn_edges": False,
    "edge_learning_rate": 0.1,
    "arch_learning_rate": 0.1,
    "arch_weight_decay": 0.0,
}


@published(
    "GAEA",
    "https://arxiv.org/abs/2004.07802",
    settings={
        # configs/cnn/mode/search_pcdarts.yaml and search_method/eedarts of the release
        "darts": {
            **_ON_THE_SIMPLEX,
            "partial_channels": 4,
            "learn_edges": True,
            "batch_size": 256,
            "learning_rate": 0.1,
            "min_learning_rate": 0.0,
        },
        # search_nasbench201.yaml, search_method/edarts; 25 epochs of a schedule over 50
        "nasbench201": {
            **_ON_THE_SIMPLEX,
            "epochs": 25,
            "annealing": 2.0,
            "channels": 24,
            "order": "arch_first",
            "nesterov": False,
            "weight_decay": 3e-4,
        },
        "chain": _ON_THE_SIMPLEX,
        "recurrent": _ON_THE_SIMPLEX,
    },
    retraining={"darts": {"drop_path": 0.3}},
)
def gaea(
    space: SearchSpace,
    training: Training,
    *,
    partial_channels: int,
    learn_edges: bool,
    edge_learning_rate: float,
) -> Method:
    """Returns the search whose arch lies on simplexes and moves by exponentiated gradients: in
    DARTS's spaces GAEA PC-DARTS, in that of NAS-Bench-201 GAEA DARTS on two levels.

    Chains and recurrent cells, which the release does not search, have the training that is usual
    there.

    Args:
      partial_channels: K; an edge computes 1 / K of the channels, the others go past it.
      learn_edges: whether edges have weights, those of a node on a simplex.
      edge_learning_rate: of these weights; that of ops is `arch_learning_rate`.

    Raises:
      ValueError: for weights of edges beside an arch optimiser that is given.

    Differs from the release: the genotype is that of the end, where the code keeps that of the
    epoch with the best validation accuracy. In NAS-Bench-201 `none` stays among the candidates,
    with which the code does without there.

    Example:
      >>> import dnas
      >>> method = gaea(dnas.SPACES["darts"], steps_per_epoch=97)
      >>> method.training.arch_learning_rate, method.options
      (0.1, {'partial_channels': 4})
    """
    if learn_edges and training.arch_optimizer is not None:
        raise ValueError(
            "the weights of edges move by exponentiated gradients of their own; give"
            " learn_edges=False beside an arch optimiser"
        )
    relaxation, moves = simplex(), training.arch_optimizer
    if moves is None:
        moves = exponentiated_gradient(training.arch_learning_rate)
    if learn_edges:
        relaxation = simplex_edge_weights()
        moves = _beside_edges(moves, space, edge_learning_rate)
    return Method(
        relaxation,
        alternating(training, moves),
        options={"partial_channels": partial_channels} if partial_channels > 1 else {},
    )


def _beside_edges(
    ops: optax.GradientTransformation, space: SearchSpace, learning_rate: float
) -> optax.GradientTransformation:
    """What moves ops, and edges on the simplexes of their kind of cell."""
    moves: dict[Hashable, optax.GradientTransformation] = {"ops": ops}
    for kind, choices in space.choices.items():
        moves[f"edges of {kind}"] = exponentiated_gradient(
            learning_rate, floor=0.0, compete=choices.compete
        )

    def labels(arch: Arch) -> PyTree:
        return {
            kind: {name: "ops" if name == "ops" else f"edges of {kind}" for name in parts}
            for kind, parts in arch.items()
        }

    return optax.multi_transform(moves, labels)
