"""beta-DARTS, https://arxiv.org/abs/2203.01665."""

from dnas import arch_losses
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import DARTS_IN_NASBENCH201, Training, alternating
from dnas.relax import Relaxation, softmax
from dnas.space import SearchSpace

# The release has a weight of 50 e / 100 in epoch e, whatever the number of epochs.
_IN_50_EPOCHS = {"relaxation": softmax(), "beta_decay": 25.0}


@published(
    "beta-DARTS",
    "https://arxiv.org/abs/2203.01665",
    settings={
        # sota/cnn/train_search.py of the release, whose space s5 has no `none`
        "darts": _IN_50_EPOCHS,
        # nasbench201/train_search.py
        "nasbench201": {
            **DARTS_IN_NASBENCH201,
            "relaxation": softmax(),
            "beta_decay": 50.0,
            "epochs": 100,
        },
        "chain": _IN_50_EPOCHS,
        "recurrent": _IN_50_EPOCHS,
    },
    space="darts_without_none",
)
def beta_darts(
    space: SearchSpace, training: Training, *, relaxation: Relaxation, beta_decay: float
) -> Method:
    """Returns the search whose largest logits are held down more and more.

    Args:
      beta_decay: weight of the loss, the mean over edges of the log-sum-exp of their logits,
        towards which it rises linearly from zero.

    Differs from the release: with two kinds of cells the mean is over the edges of both. The code
    takes it of one array of logits, as NAS-Bench-201 has; its script for DARTS's space calls the
    arch step without the epoch that the weight depends on, and perturbs the mixes of weight steps
    as `smooth_darts_rs` by default, which the paper's comparison does not name and which is left
    out.

    Example:
      >>> import dnas
      >>> method = beta_darts(dnas.SPACES["nasbench201"], steps_per_epoch=390)
      >>> weight, _ = method.arch_losses[0]
      >>> float(weight(390 * 10))
      5.0
    """
    del space
    rising = arch_losses.beta_decay_schedule(
        training.epochs, training.steps_per_epoch, end=beta_decay
    )
    return Method(
        relaxation, alternating(training), arch_losses=[(rising, arch_losses.beta_decay())]
    )
