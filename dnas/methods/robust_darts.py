"""RobustDARTS, https://arxiv.org/abs/1909.09656."""

from dnas import bilevel
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, softmax
from dnas.rules import eigenvalue
from dnas.space import SearchSpace

# src/search/args.py of the release, and scripts/DARTS_search.sh, which is --unrolled
_OWN = {
    "relaxation": softmax(),
    "arch_gradient": bilevel.unrolled(),
    "every": 2,
    "window": 5,
    "back": 4,
    "threshold": 1.3,
    "earliest": 11,
}


@published(
    "RobustDARTS, early stopping",
    "https://arxiv.org/abs/1909.09656",
    settings={family: _OWN for family in ("darts", "nasbench201", "chain", "recurrent")},
    space="s1",
)
def robust_darts(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    every: int,
    window: int,
    back: int,
    threshold: float,
    earliest: int,
) -> Method:
    """Returns DARTS of the second order that stops when the loss becomes sharp in arch:
    DARTS-ES.

    Its release searches DARTS's spaces; elsewhere it has the training that is usual there.

    Args:
      every, window, back, threshold: of `dnas.rules.eigenvalue`.
      earliest: the first epoch whose genotype may be returned, counted from 1 in a search of 50.

    Example:
      >>> import dnas
      >>> method = robust_darts(dnas.SPACES["s1"], steps_per_epoch=390, threshold=1.5)
      >>> method.training.learning_rate
      0.025

    Differs from the release: its searches have drop path and cutout that grow over the epochs, from
    none to a rate that its users choose; the published rates are from 0 to 0.6, here it is 0.
    `dnas.drop_ops` adds drop path to a relaxation. It changes to another weight decay where it
    would stop if told to (DARTS-ADA), which is not here.
    """
    del space
    rule = eigenvalue(
        every=every,
        window=window,
        back=back,
        threshold=threshold,
        from_epoch=max(round(earliest * training.epochs / 50), 1),
        decay=training.arch_weight_decay,
    )
    return Method(relaxation, alternating(training), rule=rule)
