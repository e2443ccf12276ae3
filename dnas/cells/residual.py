"""The macro network of NAS-Bench-201: three stages of cells in a chain, with a residual block of
stride 2 between them.

Section 2.1, https://arxiv.org/abs/2001.00326. The released networks end in a norm and a ReLU that
the paper does not mention.
"""

from collections.abc import Callable, Sequence
from typing import cast

import flax.linen as nn
import jax
from jax import lax

from dnas.base import Array
from dnas.cells.heads import Classifier
from dnas.cells.init import TracedOnce, Unbound, apply_once, checkpointed, stack_trees
from dnas.cells.layers import STAGES, residual_layers
from dnas.cells.norms import Norms
from dnas.cells.ops import NorConv, conv, pointwise
from dnas.kernels.sums import wide
from dnas.space import LayerSpec


class ResidualBlock(nn.Module):
    """Two ReLU-convolution-norms, the first with stride 2, beside a 2x2 mean and a 1x1 convolution
    without norm."""

    channels: int
    norms: Norms

    @nn.compact
    def __call__(self, x: Array) -> Array:
        # It is no candidate: its norms have scale and shift in a search too, and are its own.
        norms = self.norms._replace(conv=self.norms.stem, mixed=False)
        y = cast(Array, NorConv(self.channels, 2, norms, kernel=3)(x))
        y = cast(Array, NorConv(self.channels, 1, norms, kernel=3)(y))
        return y + pointwise(self.channels)(nn.avg_pool(x, (2, 2), (2, 2)))


class ResidualStack(nn.Module):
    """Stem, stages of cells with residual blocks between them, norm, ReLU and classifier; cells are
    given from outside.

    Args:
      channels, num_cells: see `residual_layers`; num_classes: of the classifier.
      norms: the norms of all places; those of the stem also in residual blocks and before the
        classifier.
      make_cell: layer -> module, called with ((x,), *args); equal layers get equal modules.
      remat: compute each cell again for the gradient instead of keeping what it computed.
      scan: run the cells of a stage in one loop, which is compiled once.
      chain: (module, weights of each cell, x, *args) -> x, what runs the cells of a stage in place
        of calling them one by one; for cells without state.
    """

    channels: int
    num_cells: int
    num_classes: int
    norms: Norms
    make_cell: Callable[[LayerSpec], nn.Module]
    remat: bool = False
    scan: bool = False
    chain: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, images: Array, *args: Array) -> Array:
        """Returns logits [B, num_classes], float32 or wider, for images [B, H, W, C] and what else
        cells are called with."""
        layers = residual_layers(
            channels=self.channels, num_cells=self.num_cells, image_size=images.shape[1:3]
        )
        steps = [
            TracedOnce(Unbound(self.make_cell(layer)), name=f"cell_{n}")
            for n, layer in enumerate(layers)
        ]
        x = self.norms.stem()(conv(self.channels, 3, 1, 1)(images))
        length = self.num_cells // STAGES
        for stage in range(STAGES):
            if stage:
                x = ResidualBlock(self.channels << stage, self.norms, name=f"residual_{stage}")(x)
            x = self._run_stage(steps[stage * length : (stage + 1) * length], x, args)
        x = nn.relu(self.norms.stem()(x))
        return Classifier(self.num_classes, name="classifier")(x.mean((1, 2), dtype=wide(x.dtype)))

    def _run_stage(self, steps: Sequence[TracedOnce], x: Array, args: tuple[Array, ...]) -> Array:
        if self.is_initializing():
            for step in steps:
                x = step((x,), *args)
            return x
        module, apply = steps[0].unbound.module, checkpointed if self.remat else apply_once
        own, rngs = [step.own() for step in steps], [step.rngs() for step in steps]
        if self.chain is not None:
            return self.chain(module, [variables.get("params", {}) for variables in own], x, *args)
        if self.scan:
            x, changed = lax.scan(
                lambda x, of_step: apply(module, *of_step, (x,), *args),
                x,
                (stack_trees(own), stack_trees(rngs)),
                length=len(steps),  # cells may have no weights
            )
            changed = [_at(changed, place) for place in range(len(steps))]
        else:
            changed = []
            for of_step in zip(own, rngs, strict=True):
                x, of_cell = apply(module, *of_step, (x,), *args)
                changed.append(of_cell)
        for step, of_cell in zip(steps, changed, strict=True):
            step.keep(of_cell)
        return x


def _at(tree, place: int):
    return jax.tree.map(lambda array: array[place], tree)
