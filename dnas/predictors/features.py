"""Architectures as rows of numbers: their options, and pairs of options."""

import math
from collections.abc import Sequence

import numpy as np

from dnas.genotype import Genotype
from dnas.space import SearchSpace, picked_of


def one_hot(space: SearchSpace, genotypes: Sequence[Genotype]) -> np.ndarray:
    """Returns [N, F] the `one_hot_mix` of each genotype, kinds and rows one after the other: in the
    order of the space, whatever the order in which a genotype lists its edges.

    Two genotypes that compute the same by other options have other features.

    Raises:
      ValueError: if a genotype does not fit the space.

    Example:
      >>> import dnas
      >>> one_hot(dnas.SPACES["darts"], [dnas.PUBLISHED["DARTS_V2"]]).shape
      (1, 224)
    """
    shapes = {kind: choices.shape for kind, choices in space.choices.items()}
    features = np.zeros((len(genotypes), sum(map(math.prod, shapes.values()))))
    for own, genotype in zip(features, genotypes, strict=True):
        picked, start = picked_of(space, genotype), 0
        for kind, (rows, options) in shapes.items():
            for row, column in picked[kind]:
                own[start + row * options + column] = 1.0
            start += rows * options
    return features


def pairs(features: np.ndarray) -> np.ndarray:
    """Returns [N, F + F (F - 1) / 2]: features [N, F], and the products of any two of them, of
    which those of two options of one row are always zero.

    A weighted sum of these is multilinear in the mix.

    Example:
      >>> pairs(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])).tolist()
      [[1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]]
    """
    first, second = np.triu_indices(features.shape[-1], k=1)
    return np.concatenate([features, features[:, first] * features[:, second]], axis=-1)
