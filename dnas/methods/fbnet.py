"""FBNet, https://arxiv.org/abs/1812.03443."""

import math

from dnas.methods.method import Method
from dnas.methods.published import published
from dnas.methods.training import Training, alternating
from dnas.relax import exponential_temperature, gumbel_softmax
from dnas.rules import best_sample
from dnas.space import SearchSpace

# Section 4.1 of the paper; temperature 5 exp(-0.045 epoch)
_SETTINGS = {
    "temperature": 5.0,
    "temperature_end": 5.0 * math.exp(-0.045 * 89),
    "samples": 6,
    "epochs": 90,
    "batch_size": 192,
    "learning_rate": 0.1,
    "min_learning_rate": 0.0,
    "weight_decay": 1e-4,
    "clip": None,
    "order": "weights_first",
    "warmup": 10 / 90,
    # four fifths of the steps of an epoch train the weights, the rest arch
    "arch_every": 4,
    "arch_learning_rate": 0.01,
    "arch_b1": 0.9,
    "arch_weight_decay": 5e-4,
}


@published(
    "FBNet",
    "https://arxiv.org/abs/1812.03443",
    settings={"chain": _SETTINGS, "darts": _SETTINGS},
    space="fbnet",
)
def fbnet(
    space: SearchSpace,
    training: Training,
    *,
    temperature: float,
    temperature_end: float,
    samples: int,
) -> Method:
    """Returns the search over soft samples of blocks, which grow colder from epoch to epoch; in the
    end architectures are drawn from what has been learnt, and the best one is kept.

    In DARTS's spaces it is the same on cells, which the paper does not search.

    Args:
      temperature, temperature_end: of the Gumbel-softmax in the first and in the last epoch; it
        falls by the same factor in every epoch.
      samples: architectures that are drawn in the end; with 0 every layer keeps its likeliest
        block.

    Raises:
      ValueError: for temperatures that are not positive.

    Differs from the release: the search is not in it. The paper trains each of the architectures
    drawn in the end; here the best is that with the best accuracy with the supernet's weights.
    There, four fifths of the images are for the weights, and an epoch has first all of their steps
    and then all of arch; here each has half of the images, and after every four steps of the
    weights there is one of arch. There is no loss on latency unless a cost or a target is given; it
    is then taken at the probabilities of the blocks, with which architectures are drawn in the end,
    and not at the soft sample of a step, which is nearer to uniform while it is hot.

    Example:
      >>> import dnas
      >>> method = fbnet(dnas.SPACES["fbnet"], steps_per_epoch=100, samples=0)
      >>> method.training.batch_size, method.rule
      (192, None)
    """
    del space
    if min(temperature, temperature_end) <= 0:
        raise ValueError(
            f"a temperature that falls exponentially is positive, got {temperature} at the start"
            f" and {temperature_end} at the end"
        )
    cooling = exponential_temperature(
        training.epochs,
        training.steps_per_epoch,
        start=temperature,
        rate=math.log(temperature / temperature_end) / max(training.epochs - 1, 1),
    )
    return Method(
        gumbel_softmax(temperature=cooling),
        alternating(training),
        rule=best_sample(num_samples=samples, seed=training.seed) if samples else None,
    )
