"""Random search with weight sharing, https://arxiv.org/abs/1902.07638."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import uniform_genotypes
from dnas.rules import best_sample
from dnas.space import SearchSpace

# searchers/random_weight_share.py of the release
_OWN = {"warmup": 1.0, "samples": 1000, "finalists": 10, "batches": 10}


@published(
    "random search with weight sharing",
    "https://arxiv.org/abs/1902.07638",
    settings={
        "darts": {**_OWN, "sampled": True},
        # RSPS of the benchmark: AutoDL-Projects, configs/nas-benchmark/algos/RANDOM.config and
        # exps/NAS-Bench-201-algos/RANDOM-NAS.py, one batch of 512 for each sample
        "nasbench201": {
            "warmup": 1.0,
            "epochs": 250,
            "samples": 100,
            "finalists": 1,
            "batches": 8,
            "sampled": True,
        },
        "chain": {**_OWN, "sampled": True},
        "recurrent": {**_OWN, "sampled": False},
    },
)
def random_ws(
    space: SearchSpace,
    training: Training,
    *,
    samples: int,
    finalists: int,
    batches: int,
    sampled: bool,
) -> Method:
    """Returns the search that trains a genotype drawn uniformly in every step, all with the same
    weights, and takes the one that is best with them of as many as it draws in the end.

    What is trained and what is ranked are of the same population: two edges a node in DARTS's
    space. Arch stays as it is. Chains, which the paper does not search, and recurrent cells have
    the training that is usual there.

    Args:
      samples: genotypes that are drawn at the end.
      finalists: of these, how many are evaluated on all of the half of arch.
      batches: what decides which: the accuracy on so many batches of it.
      sampled: whether the supernet runs the drawn ops only, which those of recurrent cells cannot.

    Example:
      >>> import dnas
      >>> method = random_ws(dnas.SPACES["darts"], steps_per_epoch=390, samples=100)
      >>> method.options
      {'sampled': True}

    Differs from the release: it may draw `none` on one of the two edges of a node, which is no
    genotype of DARTS's space. It evaluates each sample on batches of its own, here all are
    evaluated on the same; recurrent cells it judges by perplexity, here by the accuracy on all of
    the text. Its length and clipping are left to its command line, whose defaults, 100 epochs and
    0.25, are those of its language models too; here they are DARTS's.
    """
    del space
    rule = best_sample(
        num_samples=samples, finalists=finalists, batches=batches, seed=training.seed
    )
    return Method(
        uniform_genotypes(),
        alternating(training),
        rule=rule,
        options={"sampled": True} if sampled else {},
    )
