"""A space whose supernet is one linear map for each op, and searches in it."""

import jax
import jax.numpy as jnp
import numpy as np
from supernets import supernet_of

import dnas
from dnas import Hooks, Method, tasks
from dnas.bilevel import darts_optimizer
from dnas.graph import CellSpec
from dnas.run import run_search
from dnas.search import make_search
from dnas.space import LayerSpec, SearchSpace

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
LABELS = np.arange(40) % 3


def linear_supernet(*, channels, num_cells, num_classes):
    """One linear map of the pixels for each op: sum over edges and ops of mix * (x @ weights)."""
    del channels, num_cells

    def init(key, images):
        return 0.1 * jax.random.normal(key, (2, 3, images[0].size, num_classes))

    def apply(weights, mix, images):
        return jnp.einsum("bd,eo,eodc->bc", images.reshape(len(images), -1), mix["cell"], weights)

    return supernet_of(init, apply)


def linear_layers(*, channels, num_cells, image_size, stem="cifar"):
    del num_cells, stem
    if image_size[0] % 2:
        raise ValueError(f"images of {image_size} cannot be halved; resize them")
    return (LayerSpec("cell", channels, 1, image_size),)


LINEAR = SearchSpace(
    "linear",
    {"cell": CellSpec(2, 1, edges=((0, 2), (1, 2)), ops=("none", "a", "b"), concat=(2,), keep=2)},
    linear_layers,
    linear_supernet,
    None,
)


def arch_of(state):
    return state.arch["cell"]["ops"]


def search(space=LINEAR, images=IMAGES, labels=LABELS, **changes):
    """`run_search`, with what a task, a method and hooks are made of among the changes."""
    # 20 images a half and batches of 4: five steps an epoch.
    settings = dict(channels=2, num_cells=3, epochs=4, batch_size=4, report=lambda progress: None)
    settings |= changes

    def taken(names):
        return {name: settings.pop(name) for name in names if name in settings}

    task = tasks.images(images, labels, **taken(("num_classes", "augmentation")))
    method, hooks = Method(**taken(Method._fields)), Hooks(**taken(Hooks._fields))
    return run_search(space, task, method, hooks=hooks, **settings)


def small_search(space, image_shape=(8, 8, 1), num_cells=3, **parts):
    supernet = space.supernet(channels=2, num_cells=num_cells, num_classes=3)
    parts = {"optimizer": darts_optimizer(4, 5, arch_learning_rate=0.1)} | parts
    return make_search(space, supernet, example=jnp.zeros((1, *image_shape)), **parts)


def batches(number=0):
    random = np.random.default_rng(number)
    images = random.normal(size=(2, 6, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 3, (2, 6))
    return tuple(
        dnas.Batch(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(images, labels, strict=True)
    )


def data_of(state):
    return jax.tree.map(
        lambda leaf: np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ),
        state,
    )


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, data_of(one), data_of(other))
