"""DARTS, https://arxiv.org/abs/1806.09055."""

from dnas import bilevel
from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import Relaxation, softmax
from dnas.space import SearchSpace

_EVERYWHERE = {
    family: {"relaxation": softmax()} for family in ("darts", "nasbench201", "chain", "recurrent")
}
_EXACT = {
    family: {"relaxation": softmax(), "arch_gradient": bilevel.unrolled()} for family in _EVERYWHERE
}


@published("DARTS, first order", "https://arxiv.org/abs/1806.09055", settings=_EVERYWHERE)
def darts1(space: SearchSpace, training: Training, *, relaxation: Relaxation) -> Method:
    """Returns DARTS with the gradient of arch at the present weights: section 2.3 with xi = 0.

    Example:
      >>> import dnas
      >>> method = darts1(dnas.SPACES["darts"], steps_per_epoch=390)
      >>> method.training.epochs, method.training.learning_rate
      (50, 0.025)

    Differs from the release: the last batch of an epoch is left out where it is not full, since a
    step is compiled for one size. The norms of a supernet have the statistics of the batch also
    where it is evaluated; those of the release keep averages for that.
    """
    del space
    return Method(relaxation, alternating(training))


@published("DARTS, second order", "https://arxiv.org/abs/1806.09055", settings=_EXACT)
def darts2(space: SearchSpace, training: Training, *, relaxation: Relaxation) -> Method:
    """Returns DARTS with the gradient of arch through one virtual step of the weights: section 2.3,
    eqs. 6 to 8.

    Differs from the release: the gradient is exact, and costs no more. The released code
    approximates it by finite differences, as `arch_gradient=dnas.bilevel.finite_differences()`
    does.
    """
    return darts1.build(space, training, relaxation=relaxation)
