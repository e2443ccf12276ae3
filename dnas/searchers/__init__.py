"""Searchers that see architectures from outside: a value for each that they ask for."""

from dnas.searchers.architectures import DROPPED, Architectures, Picks
from dnas.searchers.evolution import regularized_evolution
from dnas.searchers.local_search import local_search
from dnas.searchers.optuna import optuna_search
from dnas.searchers.random import random_search
from dnas.searchers.reinforce import reinforce
from dnas.searchers.searcher import (
    Evaluation,
    Search,
    Searcher,
    front,
    incumbents,
    run_searcher,
)

# By name.
SEARCHERS = {
    "random_search": random_search,
    "regularized_evolution": regularized_evolution,
    "local_search": local_search,
    "reinforce": reinforce,
    "optuna": optuna_search,
}

__all__ = [
    "DROPPED",
    "SEARCHERS",
    "Architectures",
    "Evaluation",
    "Picks",
    "Search",
    "Searcher",
    "front",
    "incumbents",
    "local_search",
    "optuna_search",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "run_searcher",
]
