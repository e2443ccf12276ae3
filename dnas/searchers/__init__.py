"""Searchers that see architectures from outside: a value for each that they ask for."""

from dnas.searchers.architectures import DROPPED, Architectures, Picks
from dnas.searchers.early_stopping import search_trainings
from dnas.searchers.evolution import regularized_evolution
from dnas.searchers.guided import guided_search
from dnas.searchers.halving import successive_halving
from dnas.searchers.linas import linas
from dnas.searchers.local_search import local_search
from dnas.searchers.mcts import mcts
from dnas.searchers.optuna import optuna_search
from dnas.searchers.random import random_search
from dnas.searchers.reinforce import reinforce
from dnas.searchers.robot import robot
from dnas.searchers.searcher import (
    Evaluation,
    Search,
    Searcher,
    front,
    fronts,
    incumbents,
    run_searcher,
)
from dnas.searchers.smash import smash_search

# By name.
SEARCHERS = {
    "random_search": random_search,
    "regularized_evolution": regularized_evolution,
    "local_search": local_search,
    "reinforce": reinforce,
    "mcts": mcts,
    "smash": smash_search,
    "guided": guided_search,
    "linas": linas,
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
    "fronts",
    "guided_search",
    "incumbents",
    "linas",
    "local_search",
    "mcts",
    "optuna_search",
    "random_search",
    "regularized_evolution",
    "reinforce",
    "robot",
    "run_searcher",
    "search_trainings",
    "smash_search",
    "successive_halving",
]
