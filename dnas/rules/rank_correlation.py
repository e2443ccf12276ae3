"""Whether shared weights rank architectures as trainings from scratch do.

The question of https://arxiv.org/abs/1902.08142, which asks it of the weights at the end.
"""

from collections.abc import Sequence

import numpy as np

from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.rules.rule import Observed, Rule, Verdict
from dnas.space import one_hot_mix
from dnas.statistics import kendall


@checked
def rank_correlation(
    genotypes: Sequence[Genotype],
    values: Sequence[float],
    *,
    times: int = 4,
    batches: int | None = None,
) -> Rule:
    """Returns the rule that decides nothing and measures, after each quarter of a search, Kendall's
    tau-b between the accuracy of architectures with the shared weights and what they are worth: the
    metric `tau` of those epochs.

    Args:
      genotypes, values: architectures of the space and what each is worth, such as their accuracy
        in a tabular benchmark.
      times: how often it measures, at equal distances, the last time after the last epoch.
      batches: as in `best_sample`.

    Raises:
      ValueError: for fewer than two architectures, or another number of values.

    Example:
      >>> import dnas
      >>> from dnas.rules import chain
      >>> worth = {dnas.PUBLISHED["DARTS_V1"]: 97.0, dnas.PUBLISHED["DARTS_V2"]: 97.24}
      >>> rule = rank_correlation(list(worth), list(worth.values()), batches=8)
      >>> method = dnas.METHODS["darts1"](dnas.SPACES["darts"], steps_per_epoch=390)
      >>> method = method._replace(rule=rule if method.rule is None else chain(method.rule, rule))
    """
    if not 2 <= len(genotypes) == len(values):
        raise ValueError(
            "a correlation needs two architectures or more and a value of each, got"
            f" {len(genotypes)} architectures and {len(values)} values"
        )
    if times < 1 or (batches is not None and batches < 1):
        raise ValueError(f"times and batches are at least 1, got {times} and {batches}")

    def init(space, epochs):
        for genotype in genotypes:
            one_hot_mix(space, genotype)  # refuses what does not fit the space
        at = np.ceil(epochs * np.arange(1, times + 1) / times)
        return {"at": at.astype(np.int32)}

    def update(state, observed: Observed):
        if observed.epoch not in state["at"]:
            return state, Verdict()
        found = [
            observed.accuracy(one_hot_mix(observed.space, genotype), batches=batches)
            for genotype in genotypes
        ]
        # Accuracies that are all alike rank nothing.
        tau = float(np.nan_to_num(kendall(found, values)))
        return state, Verdict(metrics={"tau": tau})

    return Rule(init, update)
