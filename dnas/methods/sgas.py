"""SGAS, https://arxiv.org/abs/1912.00195."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, softmax
from dnas.rules import greedy
from dnas.space import SearchSpace

# cnn/train_search.py of the release
_OWN = {"relaxation": softmax(), "criterion": 1, "wait": 9, "interval": 5, "history": 4}


@published(
    "SGAS",
    "https://arxiv.org/abs/1912.00195",
    settings={"darts": _OWN, "recurrent": _OWN},
)
def sgas(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    criterion: int,
    wait: int,
    interval: int,
    history: int,
) -> Method:
    """Returns the search that decides one edge after another, by how much its ops weigh and how
    sure it is of one of them.

    Recurrent cells, which its release does not search, have the training that is usual there.

    Args:
      criterion: 1, or 2, for which the edge has to be stable as well.
      wait: epochs before the one after which the first decision falls, counted in a search of 50;
        arch learns from the first step on.
      interval: epochs between decisions, counted likewise.
      history: epochs that the second criterion looks back on.

    Raises:
      ValueError: for a space whose nodes keep all of their edges.

    Example:
      >>> import dnas
      >>> method = sgas(dnas.SPACES["darts"], steps_per_epoch=390, criterion=2)
      >>> method.training.epochs, method.training.warmup
      (50, 0.0)

    Differs from the release: it adds 8 to the batch size with every decision, in the memory that
    the decision frees, and here the batch stays: shapes are fixed when a step is compiled. It
    scales scores from 0 to 1 over all edges; here over those that are undecided, since decided ones
    have left the relaxation.
    """
    rule = greedy(
        criterion=criterion,
        warm_up=round(wait * training.epochs / 50),
        interval=max(round(interval * training.epochs / 50), 1),
        history=history,
    )
    rule.init(space, training.epochs)  # refuses a space here and not at the start of a search
    return Method(relaxation, alternating(training), rule=rule)
