"""sharpDARTS, https://arxiv.org/abs/1903.09900."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, max_w, softmax
from dnas.space import SearchSpace


@published(
    "sharpDARTS",
    "https://arxiv.org/abs/1903.09900",
    settings={
        # README.md of the release, "Max-W Regularization Search", and cnn/train_search.py
        "darts": {
            "relaxation": softmax(),
            "epochs": 120,
            "batch_size": 48,
            "min_learning_rate": 1e-4,
            "rate_schedule": "cosine_power",
            "rate_warmup": 5 / 120,
            "detach": False,
        },
    },
    # "CIFAR-10 Training"
    retraining={"darts": {"batch_size": 64, "epochs": 2000}},
    space="sharp_darts",
)
def sharp_darts(
    space: SearchSpace, training: Training, *, relaxation: Relaxation, detach: bool
) -> Method:
    """Returns the search in which the strongest op of an edge has weight one (Max-W), under
    a learning rate that falls along a power of a cosine (section 3.3).

    Args:
      detach: as in `dnas.max_w`.

    Example:
      >>> import dnas
      >>> method = sharp_darts(dnas.SPACES["sharp_darts"], steps_per_epoch=520)
      >>> method.training.epochs, method.training.rate_schedule
      (120, 'cosine_power')

    Differs from the release: its commands add cutout and AutoAugment to the images of the search.
    Images are the task's here: `Augmentation(cutout=16, policy=AUGMENTATIONS["auto"]())`, or on
    the command line `--search-augment=auto`, which has no cutout in the search. Its README
    searches among the eight names of DARTS, each of the convolutions a block of its own; the space
    sharp_darts has the nine of its PRIMITIVES, the default of its code. Final networks are trained
    along DARTS's cosine, those of the release along the power of one.
    """
    del space
    return Method(max_w(relaxation, detach=detach), alternating(training))
