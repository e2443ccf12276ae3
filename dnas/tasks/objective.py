"""The loss that both levels of a search, and retraining, minimise on a batch."""

import optax

from dnas.base import Array, Metrics


def classification_loss(logits: Array, labels: Array) -> tuple[Array, Metrics]:
    """Returns the mean cross entropy of logits [B, num_classes] and labels [B], and the metrics
    loss and accuracy."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, {"loss": loss, "accuracy": (logits.argmax(-1) == labels).mean()}
