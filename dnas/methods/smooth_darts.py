"""SmoothDARTS, https://arxiv.org/abs/2002.05283."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import DARTS_IN_NASBENCH201, Training, alternating
from dnas.relax import (
    Relaxation,
    adversarial_perturbation,
    perturbation_radius,
    random_perturbation,
    softmax,
)
from dnas.space import SearchSpace

_OWN = {"relaxation": softmax(), "perturb_radius": 0.3}
_SETTINGS = {
    # sota/cnn/train_search.py of the release, whose space s5 has no `none`
    "darts": _OWN,
    # nasbench201/train_search.py
    "nasbench201": {**_OWN, **DARTS_IN_NASBENCH201, "epochs": 100},
    "chain": _OWN,
    # sota/rnn, which follows DARTS there
    "recurrent": _OWN,
}
_ATTACKED = {family: {**own, "attack_steps": 7} for family, own in _SETTINGS.items()}


@published(
    "SmoothDARTS, random smoothing",
    "https://arxiv.org/abs/2002.05283",
    settings=_SETTINGS,
    space="darts_without_none",
)
def smooth_darts_rs(
    space: SearchSpace, training: Training, *, relaxation: Relaxation, perturb_radius: float
) -> Method:
    """Returns the search whose weights are trained at mixes that are moved at random: SDARTS-RS.

    Args:
      perturb_radius: the largest move of an entry of the mix, reached in the end; it begins at
        0.03.

    Example:
      >>> import dnas
      >>> smooth_darts_rs(dnas.SPACES["nasbench201"], steps_per_epoch=390).training.epochs
      100
    """
    del space
    return Method(
        relaxation,
        alternating(training),
        perturbation=random_perturbation(
            perturbation_radius(training.epochs, training.steps_per_epoch, end=perturb_radius)
        ),
    )


@published(
    "SmoothDARTS, adversarial",
    "https://arxiv.org/abs/2002.05283",
    settings=_ATTACKED,
    space="darts_without_none",
)
def smooth_darts_adv(
    space: SearchSpace,
    training: Training,
    *,
    relaxation: Relaxation,
    perturb_radius: float,
    attack_steps: int,
) -> Method:
    """Returns the search whose weights are trained at the worst mixes nearby: SDARTS-ADV.

    Args:
      perturb_radius: as in `smooth_darts_rs`.
      attack_steps: of projected gradient ascent, each 2 perturb_radius / attack_steps long.

    Differs from the release: the attack sees the supernet as it is trained, with norms by the
    batch; the code attacks it in evaluation mode, with running averages, which supernets do not
    keep here.

    Example:
      >>> import dnas
      >>> method = smooth_darts_adv(dnas.SPACES["darts_without_none"], steps_per_epoch=390)
      >>> method.perturbation is not None, method.training.epochs
      (True, 50)
    """
    del space
    return Method(
        relaxation,
        alternating(training),
        perturbation=adversarial_perturbation(
            perturbation_radius(training.epochs, training.steps_per_epoch, end=perturb_radius),
            steps=attack_steps,
        ),
    )
