"""What is learnt: `images(...)`, `stream(...)`, `text(...)`, or any other `Task`."""

from collections.abc import Callable

from dnas.tasks.imagenet import imagenet
from dnas.tasks.images import images
from dnas.tasks.policies import Policy, auto_augment, no_policy, rand_augment
from dnas.tasks.streaming import Source, stream
from dnas.tasks.task import Feed, Task
from dnas.tasks.text import text

# What changes training images besides crop, flip and cutout.
AUGMENTATIONS: dict[str, Callable[..., Policy]] = {
    "none": no_policy,
    "auto": auto_augment,
    "rand": rand_augment,
    "imagenet": imagenet,
}

__all__ = [
    "AUGMENTATIONS",
    "Feed",
    "Policy",
    "Source",
    "Task",
    "auto_augment",
    "imagenet",
    "images",
    "rand_augment",
    "stream",
    "text",
]
