"""The score that needs no network: how much a network computes."""

from typing import Any

from dnas.base import Array, Batch, Mix, PyTree
from dnas.hw_loss import count_table, expected_cost
from dnas.model import Model, Outputs
from dnas.space import SearchSpace


def macs(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns the multiply-adds of a network without its branches that lead nowhere, as `counted`
    has them.

    On NAS-Bench-201 most scores rank no better, so that it belongs beside every one of them.
    """
    return model.apply(variables, mix, batch.inputs)[0].logits


def counted(space: SearchSpace, inputs: Array, **sizes: Any) -> Model:
    """Returns, in the form of a model, what the networks of a space cost for one image."""
    sizes |= {"image_size": inputs.shape[1:3], "image_channels": inputs.shape[-1]}
    cost = expected_cost(
        count_table(space, **sizes), space.parts(**sizes), metric="macs", live="path"
    )
    return Model(
        init=lambda key, inputs: {},
        apply=lambda variables, mix, inputs: (Outputs(cost(mix)), variables),
    )
