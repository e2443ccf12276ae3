"""SNAS, https://arxiv.org/abs/1812.09926."""

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import DARTS_IN_NASBENCH201, Training, alternating
from dnas.relax import drop_edges, gumbel_softmax, linear_temperature
from dnas.selection import argmax_edges, default_selection
from dnas.space import SearchSpace

_OWN = {
    "temperature": 1.0,
    "temperature_end": 0.03,
    "arch_init_scale": 0.01,
    "search_drop_path": 0.0,
    "keep_all": True,
    "single_level": True,
    "arch_clip": 10.0,
}


@published(
    "SNAS",
    "https://arxiv.org/abs/1812.09926",
    settings={
        # SNAS/train_search.py of the release and the command of its README
        "darts": {**_OWN, "epochs": 150, "search_drop_path": 0.3},
        # a baseline of DrNAS, 201-space/train_search.py --method snas of its release
        "nasbench201": {
            **_OWN,
            **DARTS_IN_NASBENCH201,
            "temperature": 10.0,
            "temperature_end": 1.0,
            "arch_init_scale": 1e-3,
            "single_level": False,
            "arch_clip": None,
            "epochs": 100,
        },
        "chain": _OWN,
        "recurrent": {**_OWN, "keep_all": False},
    },
)
def snas(
    space: SearchSpace,
    training: Training,
    *,
    temperature: float,
    temperature_end: float,
    arch_init_scale: float,
    search_drop_path: float,
    keep_all: bool,
) -> Method:
    """Returns the search of one level: weights and arch learn together, from the same batches of
    all images, through soft samples of ops.

    In NAS-Bench-201, which the paper does not search, it is what the release of DrNAS calls by this
    name: two levels, and a temperature from 10 to 1. Chains and recurrent cells have the training
    that is usual there.

    Args:
      temperature, temperature_end: of the Gumbel-softmax in the first and in the last epoch, linear
        in between.
      arch_init_scale: standard deviation of the first logits.
      search_drop_path: rate at which what an edge makes of an image is dropped, from the first step
        on.
      keep_all: whether every edge keeps its strongest op, `none` among them, as the release reads
        the genotypes that its paper trains; otherwise by the usual rule of the space.

    Differs from the release: there is no penalty on resources unless a cost or a target is given;
    its command has one on the logarithm of parameters, multiply-adds and memory. All cells of a
    kind drop the same edges for an image, where each draws for itself there, since they share a
    mix. Arch has Adam, as in its searches on several GPUs; on one it has plain SGD, which at a rate
    of 3e-4 hardly moves it. Its logits start around 1 and not 0, which softmax does not see. The
    temperature is up to one epoch late, so that it is the last one in the last epoch.

    Example:
      >>> import dnas
      >>> method = snas(dnas.SPACES["darts"], steps_per_epoch=781)
      >>> method.single_level, method.training.epochs
      (True, 150)
    """
    del space
    cooling = linear_temperature(
        training.epochs, training.steps_per_epoch, start=temperature, end=temperature_end
    )
    relaxation = gumbel_softmax(temperature=cooling, init_scale=arch_init_scale)
    if search_drop_path:
        relaxation = drop_edges(relaxation, search_drop_path, training.batch_size)
    return Method(
        relaxation,
        alternating(training),
        select=argmax_edges() if keep_all else default_selection,
    )
