"""What may happen between the epochs of a search: guards that stop it, and decisions that drop
candidates. One paper a file."""

from dnas.rules.best_sample import best_sample
from dnas.rules.chain import chain
from dnas.rules.eigenvalue import eigenvalue
from dnas.rules.greedy import greedy, greedy_epochs
from dnas.rules.perturbation import perturbation, perturbation_epochs
from dnas.rules.rank_correlation import rank_correlation
from dnas.rules.ranking import ranking
from dnas.rules.rule import Observed, Rule, Verdict
from dnas.rules.skip_count import skip_count

# Each entry makes a rule with the paper's defaults.
RULES = {
    "best_sample": best_sample,
    "eigenvalue": eigenvalue,
    "greedy": greedy,
    "perturbation": perturbation,
    "ranking": ranking,
    "skip_count": skip_count,
}

__all__ = [
    "Observed",
    "RULES",
    "Rule",
    "Verdict",
    "best_sample",
    "chain",
    "eigenvalue",
    "greedy",
    "greedy_epochs",
    "perturbation",
    "perturbation_epochs",
    "rank_correlation",
    "ranking",
    "skip_count",
]
