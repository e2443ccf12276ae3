"""What a score without training is, and a program for each that has the architecture for an
argument."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dnas.base import Batch, Mix, PyTree, enable_x64
from dnas.checks import checked
from dnas.genotype import Genotype
from dnas.model import Model
from dnas.space import SearchSpace, one_hot_mix

# (model, variables, mix, batch) -> an array, or what `Score.value` makes a number of
Measure = Callable[[Model, PyTree, Mix, Batch], PyTree]

LAST = -np.inf  # the score of what has none, such as a network whose output depends on no input


def sampled_supernet(space: SearchSpace, inputs: PyTree, **sizes: Any) -> Model:
    """Returns the supernet that runs the chosen ops only, where its space has such."""
    del inputs
    return space.supernet(**sizes, **_sampled(space))


def unrolled_supernet(space: SearchSpace, inputs: PyTree, **sizes: Any) -> Model:
    """Returns the same with every edge written out, in which nothing runs that a network does
    without: a loop over cells also makes what the last of them would hand on."""
    del inputs
    return space.supernet(**sizes, **_sampled(space), **space.unrolled)


def _sampled(space: SearchSpace) -> dict[str, Any]:
    return {"sampled": True} if space.inputs == "images" else {}


class Score(NamedTuple):
    """A score without training: what a network is worth at its initialisation, more is better.

    Args:
      measure: what is compiled.
      value: what `measure` returns, as NumPy arrays -> the score, where that takes 64 bits.
      network: (space, inputs, **sizes of the supernet) -> the model that is measured.
      wide: whether all of it is computed in 64 bits.
      inputs: of which networks it is, those that read "images", "tokens", or both.
    """

    measure: Measure
    value: Callable[[Any], float] = float
    network: Callable[..., Model] = sampled_supernet
    wide: bool = False
    inputs: tuple[str, ...] = ("images", "tokens")


@checked
def make_scorer(
    space: SearchSpace,
    scores: Mapping[str, Score],
    batch: Any,
    *,
    seeds: Sequence[int] = (0,),
    **sizes: Any,
) -> Callable[[Genotype], dict[str, float]]:
    """Returns the function genotype -> {name: score}; what has no finite score gets `LAST`, minus
    infinity, so that it ranks last.

    Weights are those of the supernet, which a genotype shares with others: U(-1/sqrt(fan_in),
    1/sqrt(fan_in)) for convolutions and products, PyTorch's default, but where a score says
    otherwise. Each score is one program, compiled when it is first needed, whose argument is the
    architecture; on a CPU ops that an architecture does without do not run.

    Args:
      scores: such as `{name: SCORES[name] for name in ("naswot", "synflow")}`.
      batch: a `Batch` of the examples that networks see: all the same.
      seeds: of the weights; a score is the mean over all of them.
      sizes: of the supernet, such as channels, num_cells and num_classes.

    Raises:
      ValueError: for no seed, and for a score that networks of the space cannot have.

    Example:
      >>> import dnas
      >>> from dnas.scores import SCORES
      >>> batch = dnas.Batch(jnp.ones((2, 8, 8, 3)), jnp.zeros(2, int))
      >>> scorer = make_scorer(
      ...     dnas.SPACES["nasbench201"], {"macs": SCORES["macs"]}, batch, channels=4, num_cells=3
      ... )
      >>> cell = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"
      >>> live = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
      >>> scorer(dnas.Genotype.from_text(cell)) == scorer(dnas.Genotype.from_text(live))
      True
    """
    if not seeds:
        raise ValueError("weights are drawn with a seed; give at least one, such as seeds=(0,)")
    for name, score in scores.items():
        if space.inputs not in score.inputs:
            raise ValueError(
                f"score {name!r} is of networks that read {' or '.join(score.inputs)}, and those of"
                f" the space {space.name!r} read {space.inputs}"
            )
    programs = {name: _program(space, score, batch, seeds, sizes) for name, score in scores.items()}

    def scored(genotype: Genotype) -> dict[str, float]:
        mix = live_mix(space, genotype)
        return {name: program(mix) for name, program in programs.items()}

    return scored


def live_mix(space: SearchSpace, genotype: Genotype) -> dict[str, np.ndarray]:
    """Returns the `one_hot_mix` of a genotype without the edges that lie on no path from an input
    of a cell to its output: they change nothing, and here they do not run.

    Raises:
      ValueError: if the genotype does not fit the space.

    Example:
      >>> import dnas
      >>> cell = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
      >>> float(live_mix(dnas.SPACES["nasbench201"], dnas.Genotype.from_text(cell))["cell"].sum())
      0.0
    """
    mix = {kind: np.array(rows) for kind, rows in one_hot_mix(space, genotype).items()}
    for kind, spec in space.cells.items():
        live = {edge[:2] for edge in spec.live_edges_of(genotype.cells[kind])}
        mix[kind][[edge not in live for edge in spec.edges]] = 0
    return mix


def _program(
    space: SearchSpace, score: Score, batch: Batch, seeds: Sequence[int], sizes: Mapping[str, Any]
) -> Callable[[Mix], float]:
    """The score of a mix, compiled when it is called first."""
    model = score.network(space, batch.inputs, **sizes)
    draws = [model.init(jax.random.key(seed), batch.inputs) for seed in seeds]
    measure = jax.jit(partial(score.measure, model))
    bits = enable_x64(True) if score.wide else contextlib.nullcontext()
    with bits:
        draws, batch = _widened((draws, batch)) if score.wide else (draws, batch)

    def of(mix: Mix) -> float:
        with enable_x64(True) if score.wide else contextlib.nullcontext():
            own = _widened(mix) if score.wide else mix
            found = [jax.tree.map(np.asarray, measure(draw, own, batch)) for draw in draws]
        value = float(np.mean([score.value(array) for array in found]))
        return value if np.isfinite(value) else LAST

    return of


def _widened(tree: PyTree) -> PyTree:
    """The tree with 64 bits for its numbers."""

    def wide(array):
        is_real = jnp.issubdtype(array.dtype, jnp.floating)
        return jnp.asarray(array, jnp.float64) if is_real else array

    return jax.tree.map(wide, tree)
