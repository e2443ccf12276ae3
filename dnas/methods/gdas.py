"""GDAS, https://arxiv.org/abs/1910.04465."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import gumbel_hard, linear_temperature
from dnas.selection import default_selection, top_pairs
from dnas.space import SearchSpace

_SAMPLED = {"temperature": 10.0, "temperature_end": 0.1, "sampled": True, "pairs": False}


@published(
    "GDAS",
    "https://arxiv.org/abs/1910.04465",
    settings={
        # AutoDL-Projects, configs/search-opts/GDAS-NASNet-CIFAR.config and search-archs of the same
        # name, where N = 2 makes six cells
        "darts": {
            **_SAMPLED,
            "epochs": 250,
            "batch_size": 256,
            "num_cells": 6,
            "weight_decay": 5e-4,
            "nesterov": True,
            "order": "weights_first",
        },
        # configs/nas-benchmark/algos/GDAS.config; the rest is of all searches of the benchmark
        "nasbench201": {**_SAMPLED, "epochs": 250},
        "chain": {**_SAMPLED, "order": "weights_first"},
        "recurrent": {**_SAMPLED, "sampled": False, "order": "weights_first"},
    },
)
def gdas(
    space: SearchSpace,
    training: Training,
    *,
    temperature: float,
    temperature_end: float,
    sampled: bool,
    pairs: bool,
) -> Method:
    """Returns the search that runs one sampled op an edge, drawn anew for the weights and for arch:
    section 3.2 of the paper.

    Chains and recurrent cells have the training that is usual there, since no settings of theirs
    are released.

    Args:
      temperature, temperature_end: of the Gumbel-softmax in the first and in the last epoch, linear
        in between.
      sampled: whether ops that are not drawn are left out, as every supernet of images can.
      pairs: whether genotypes are read by `top_pairs`.

    Differs from the release: nodes keep their two strongest edges, as the paper says; the code
    keeps the two strongest pairs of an edge and an op, which may share an edge, as `pairs=True`
    does. In NAS-Bench-201 an op that is not drawn gets no gradient of its own; there the code adds
    the entries of such ops to the edge as bare numbers, see `dnas.gumbel_hard`, which makes their
    gradient one of an op that is not among the candidates.

    Example:
      >>> import dnas
      >>> gdas(dnas.SPACES["nasbench201"], steps_per_epoch=390).options
      {'sampled': True}
    """
    del space
    cooling = linear_temperature(
        training.epochs, training.steps_per_epoch, start=temperature, end=temperature_end
    )
    return Method(
        gumbel_hard(temperature=cooling),
        alternating(training),
        select=top_pairs() if pairs else default_selection,
        options={"sampled": True} if sampled else {},
    )
