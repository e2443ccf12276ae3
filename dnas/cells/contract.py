"""The laws of an op."""

import contextlib
from collections.abc import Callable, Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dnas.cells.init import init_variables
from dnas.cells.norms import final_norms, search_norms
from dnas.cells.ops import Op
from dnas.checks import checked

_BATCH, _HEIGHT, _WIDTH, _CHANNELS, _SEEDS = 2, 8, 6, 4, 2


@contextlib.contextmanager
def law(text: str) -> Iterator[None]:
    """Within it, whatever fails becomes an AssertionError that begins with the law."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"law broken: {text}. {type(error).__name__}: {error}") from error


def assert_same_structure(left, right) -> None:
    """Raises ValueError unless both trees have one structure, and AssertionError unless their
    arrays have the same shapes and types."""
    if jax.tree.structure(left) != jax.tree.structure(right):
        raise ValueError(f"{jax.tree.structure(left)} is not {jax.tree.structure(right)}")
    chex.assert_trees_all_equal_shapes_and_dtypes(left, right)


@checked
def check_op(factory: Callable) -> None:
    """Checks an op as `OPS` holds it: `factory(channels=, stride=, norms=, name=)` returns a flax
    module.

    For strides 1 and 2 the module maps float32 images [B, H, W, C] to float32 [B, ceil(H/s),
    ceil(W/s), C]; values and the gradients of images and weights are finite, also at zero; jit
    changes nothing, and vmap over weights and images equals running them one by one, as the
    supernet does; with `search_norms` it has weights only, with `final_norms` it may keep running
    averages in "batch_stats", which only training changes. Where the op is a record, what it says
    of the op is so.

    Raises:
      AssertionError: names the first law that fails.

    Example:
      >>> from dnas.cells import OPS
      >>> check_op(OPS["avg_pool_3x3"])
    """
    keys = jax.random.split(jax.random.key(0), _SEEDS)
    images = jax.random.normal(jax.random.key(1), (_SEEDS, _BATCH, _HEIGHT, _WIDTH, _CHANNELS))
    for stride in (1, 2):
        shape = (_BATCH, -(-_HEIGHT // stride), -(-_WIDTH // stride), _CHANNELS)
        _check_in_search(factory, keys, images, stride, shape)
        _check_in_final_network(factory, keys[0], images[0], stride, shape)


def _check_in_search(factory, keys, images, stride, shape):
    where = f"with search_norms() and stride {stride}"
    with law(f"an op can be built {where}"):
        op = factory(channels=_CHANNELS, stride=stride, norms=search_norms(), name="op")
        variables = [init_variables(op, key, x) for key, x in zip(keys, images, strict=True)]
    with law(f"an op keeps nothing but weights {where}"):
        if set(variables[0]) - {"params"}:
            raise ValueError(f"it also has variables in {sorted(set(variables[0]) - {'params'})}")
    with law(f"an op runs on its weights alone {where}"):
        eager = [op.apply(own, x) for own, x in zip(variables, images, strict=True)]
    with law(f"the output of an op is [B, ceil(H/s), ceil(W/s), C] {where}"):
        chex.assert_shape(eager[0], shape)
    with law(f"an op keeps float32 {where}"):
        chex.assert_type([eager[0], *jax.tree.leaves(variables[0])], jnp.float32)
    with law(f"an op is finite {where}"):
        chex.assert_tree_all_finite(eager)

    if isinstance(factory, Op):
        with law(f"the record of an op says what it does {where}"):
            _check_record(factory, op, variables[0], images[0], eager[0], stride)

    direction = jax.random.normal(jax.random.key(2), shape)

    def product(own, x):
        y = op.apply(own, x)
        return jnp.vdot(y, direction), y

    with law(f"an op works under jit, with a gradient {where}"):
        gradient = jax.jit(jax.grad(product, argnums=(0, 1), has_aux=True))
        gradients, jitted = gradient(variables[0], images[0])
    with law(f"an op computes the same under jit {where}"):
        chex.assert_trees_all_close(jitted, eager[0], atol=1e-4)
    with law(f"the gradients of an op for images and weights are finite {where}"):
        chex.assert_tree_all_finite(gradients)
        chex.assert_tree_all_finite(gradient(variables[0], jnp.zeros_like(images[0])))
    with law(f"vmap of an op over weights and images equals one by one {where}"):
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *variables)
        chex.assert_trees_all_close(
            jax.vmap(op.apply)(stacked, images), jnp.stack(eager), atol=1e-4
        )


def _check_record(record, op, variables, images, output, stride):
    if record.computes_nothing and np.any(output):
        raise ValueError("it is said to compute nothing, and computes something")
    if record.is_identity(stride) and not np.array_equal(output, images):
        raise ValueError("it is said to be an identity, and changes its input")
    if record.without_weights and jax.tree.leaves(variables):
        raise ValueError(f"it is said to have no weights, and has {sorted(variables['params'])}")
    if record.begins_with_relu(stride):
        again = op.apply(variables, jax.nn.relu(images))
        if not np.allclose(output, again, atol=1e-5):
            raise ValueError("it is said to begin with a ReLU, and depends on negative numbers")


def _check_in_final_network(factory, key, images, stride, shape):
    where = f"with final_norms(train) and stride {stride}"
    with law(f"an op can be built and run {where}"):
        op = factory(channels=_CHANNELS, stride=stride, norms=final_norms(True), name="op")
        variables = init_variables(op, key, images)
        trained, averages = op.apply(variables, images, mutable=["batch_stats"])
        op = factory(channels=_CHANNELS, stride=stride, norms=final_norms(False), name="op")
        evaluated = op.apply(variables, images)
    with law(f"an op has no variables but params and batch_stats {where}"):
        if set(variables) - {"params", "batch_stats"}:
            raise ValueError(f"it has variables in {sorted(variables)}")
    with law(f"training keeps the shapes of the running averages {where}"):
        assert_same_structure(averages.get("batch_stats", {}), variables.get("batch_stats", {}))
    with law(f"the output of an op is float32 [B, ceil(H/s), ceil(W/s), C] {where}"):
        chex.assert_shape([trained, evaluated], shape)
        chex.assert_type([trained, evaluated], jnp.float32)
    with law(f"an op is finite {where}"):
        chex.assert_tree_all_finite((trained, evaluated, averages))
