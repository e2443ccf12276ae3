"""A search runs in every mode that JAX has for finding mistakes."""

import itertools
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A search and a training in the smallest networks that have each kind of op, with a constraint, an
# arch loss and an augmentation.
PROGRAM = """
import sys
import jax, numpy as np, dnas
ops = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3")
space = dnas.darts_space(name="tiny", ops=ops, num_nodes=1)
images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
labels = np.arange(16) % 3
augmentation = dnas.Augmentation((0.5,), (0.25,), crop_padding=1, cutout=2)
task = dnas.tasks.images(images, labels, test=(images, labels), augmentation=augmentation)
counted = dict(channels=2, num_cells=1, image_size=8, image_channels=1, num_classes=3)
table = dnas.hw_loss.count_table(space, **counted)
cost = dnas.hw_loss.expected_cost(table, space.parts(**counted), metric="params")
method = dnas.Method(
    arch_losses=[(0.1, dnas.arch_losses.entropy())],
    constraint=dnas.hw_loss.Constraint((cost,), dnas.hw_loss.lagrangian(1e3)),
    options={"sampled": SAMPLED},
)
sizes = dict(channels=2, num_cells=1, epochs=1, batch_size=4, max_steps=1, hooks=dnas.QUIET)
if SAMPLED:
    method = method._replace(relaxation=dnas.gumbel_hard())
found = dnas.run_search(space, task, method, **sizes)
network = space.network(found.genotype, channels=2, num_cells=1, num_classes=3)
trained = dnas.retrain(network, task, epochs=1, batch_size=8, max_steps=1, hooks=dnas.QUIET)
for leaf in jax.tree.leaves((found.state.weights, found.state.arch, trained.variables)):
    assert np.isfinite(leaf).all(), leaf
print(trained.test_accuracy)
"""

MODES = {
    "none": {},
    "no compilation": {"JAX_DISABLE_JIT": "1"},
    "strict types": {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    "strict ranks": {"JAX_NUMPY_RANK_PROMOTION": "raise"},
    "64 bits": {"JAX_ENABLE_X64": "1"},
    "nan": {"JAX_DEBUG_NANS": "1"},
    "leaks": {"JAX_CHECK_TRACER_LEAKS": "1"},
}
QUICK = (("strict types", False), ("strict ranks", True))


@pytest.mark.parametrize(
    ("mode", "sampled"),
    [
        pytest.param(*own, marks=[] if own in QUICK else [pytest.mark.slow])
        for own in itertools.product(MODES, (False, True))
    ],
)
def test_a_search_and_a_training_run(mode, sampled):
    environment = {**os.environ, **MODES[mode], "PYTHONPATH": str(ROOT)}
    program = PROGRAM.replace("SAMPLED", str(sampled))
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 <= float(done.stdout.splitlines()[-1]) <= 1
