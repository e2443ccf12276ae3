"""Supernets as functions of their weights alone, and the other way round."""

from dnas.model import Model, Outputs


def weights_of(supernet):
    """(key, inputs) -> weights."""
    return lambda key, inputs: supernet.init(key, inputs)["params"]


def logits_of(supernet):
    """(weights, mix, inputs) -> logits."""
    return lambda weights, mix, inputs: supernet.apply({"params": weights}, mix, inputs)[0].logits


def supernet_of(weights, logits):
    """The supernet of which the functions above would return these two."""

    def apply(variables, mix, inputs, *, key=None, train=False, drop_path=0.0):
        del key, train, drop_path
        return Outputs(logits(variables["params"], mix, inputs)), variables

    return Model(lambda key, inputs: {"params": weights(key, inputs)}, apply)
