"""DARTS-PT, https://arxiv.org/abs/2108.04392."""

import dataclasses

from dnas.methods.method import Method, SearchResult, Stage
from dnas.methods.published import published
from dnas.methods.training import Training, alternating, check_unused
from dnas.relax import Relaxation, softmax
from dnas.rules import perturbation, perturbation_epochs
from dnas.search import SearchState
from dnas.space import SearchSpace

_OWN = {"relaxation": softmax(), "interval": 5, "tuning_rate": 0.1}


@published(
    "DARTS-PT",
    "https://arxiv.org/abs/2108.04392",
    settings={
        # sota/cnn/train_search.py and exp_scripts/darts-proj-sota.sh of the release
        "darts": {**_OWN, "falling": True},
        # nasbench201/train_search.py and exp_scripts/darts-proj-201.sh, which are not the
        # benchmark's
        "nasbench201": {
            **_OWN,
            "falling": False,
            "epochs": 100,
            "order": "arch_first",
            "nesterov": False,
            "weight_decay": 3e-4,
        },
    },
    space="darts_without_none",
)
def darts_pt(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    interval: int,
    tuning_rate: float,
    falling: bool,
) -> Method:
    """Returns DARTS, and then its projection onto a genotype: an edge keeps the op without which
    the supernet loses most, while the supernet is tuned.

    The second stage begins with the weights and logits of the first. It is as long as
    `dnas.perturbation_epochs` says, whatever the length of the first. Where nodes keep all of their
    edges, ops are decided and no edge is dropped, and `none` is a candidate.

    Args:
      interval: epochs of tuning between projections.
      tuning_rate: the learning rate of the tuning, as a part of that of the search.
      falling: whether it falls along one cosine, to the smallest rate of the search.

    Raises:
      ValueError: for settings of a single level.

    Example:
      >>> import dnas
      >>> method = darts_pt(dnas.SPACES["darts_without_none"], steps_per_epoch=390)
      >>> [stage.method.training.epochs for stage in method.stages]
      [81]

    Differs from the release: its first projection falls before any tuning, here after the first
    epoch of it, since rules run after epochs; in NAS-Bench-201 its last one falls an epoch early.
    While the edges of a node are dropped, it measures with those that it has dropped already; here
    what was decided stays so.
    """
    check_unused(training, "DARTS-PT", ("single_level",))
    rate = training.learning_rate * tuning_rate
    tuning = dataclasses.replace(
        training,
        epochs=perturbation_epochs(space, interval=interval),
        learning_rate=rate,
        min_learning_rate=min(training.min_learning_rate, rate) if falling else rate,
        rate_warmup=0.0,
        warmup=0.0,
    )
    projection = Method(
        relaxation,
        alternating(tuning),
        rule=perturbation(interval=interval, seed=training.seed),
        training=tuning,
    )
    return Method(relaxation, alternating(training), stages=[Stage(projection, begin=_go_on)])


def _go_on(state: SearchState, before: SearchResult) -> SearchState:
    """The supernet as it is, arch with what its optimiser knows, and a new optimiser of the
    weights."""
    optimizer = state.optimizer._replace(arch=before.state.optimizer.arch)
    return state._replace(weights=before.state.weights, arch=before.state.arch, optimizer=optimizer)
