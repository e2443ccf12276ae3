"""What scores ask of a network: what it says of a batch, and how wrong that is."""

from collections.abc import Callable

from dnas.base import Array, Batch, Mix, PyTree
from dnas.model import Model, Outputs, Tokens
from dnas.tasks.task import classification_loss


def outputs_of(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Outputs:
    """Returns the outputs for a batch, with norms that use its statistics and nothing drawn."""
    # A network of a genotype has running averages until it is trained, and draws nothing without a
    # key; recurrent networks have no averages, and would drop out.
    train = not isinstance(batch.inputs, Tokens)
    return model.apply(variables, mix, batch.inputs, train=train)[0]


def logits_of(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Array:
    """Returns their logits."""
    return outputs_of(model, variables, mix, batch).logits


def loss_of(model: Model, variables: PyTree, mix: Mix, batch: Batch) -> Callable[[PyTree], Array]:
    """Returns the function from weights to the mean cross entropy of a batch."""

    def loss(weights: PyTree) -> Array:
        logits = logits_of(model, {**variables, "params": weights}, mix, batch)
        return classification_loss(logits, batch.targets)[0]

    return loss
