"""Arguments are what annotations say, or are refused with what was given and what is allowed."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnas
from dnas.checks import at_least, check_fields, checked, whole


class Point(NamedTuple):
    x: int
    label: str = ""


TAKEN = [
    (int, np.int64(3), 3),
    (int, jnp.asarray(3), 3),
    (float, 3, 3),
    (float, np.float32(0.5), 0.5),
    (float, float("inf"), float("inf")),
    (bool, np.bool_(True), True),
    (int | None, None, None),
    (Literal["a", "b"], "b", "b"),
    (tuple[int, ...], [np.int32(1), 2], (1, 2)),
    (tuple[int, str], (1, "a"), (1, "a")),
    (Mapping[str, tuple[int, ...]], {"a": (1, 2)}, {"a": (1, 2)}),
    (str | pathlib.Path, pathlib.Path("a"), pathlib.Path("a")),
    (Point, Point(1), Point(1)),
    (Any, object, object),
]


@pytest.mark.parametrize(("annotation", "given", "arrives"), TAKEN)
def test_what_an_annotation_allows_arrives(annotation, given, arrives):
    @checked
    def function(value: annotation):
        return value

    found = function(given)
    assert (found == arrives and type(found) is type(arrives)) or annotation is float


REFUSED = [
    (int, 1.5, "value is a whole number, not 1.5"),
    (int, 4.0, "a whole number, not 4.0"),
    (int, True, "a whole number, not True"),
    (int, "3", "a whole number, not '3'"),
    (int, 2**63, "a whole number"),
    (int, [], r"a whole number, not \[\]"),
    (float, float("nan"), "a number, not nan"),
    (float, "0.1", "a number, not '0.1'"),
    (float, 10**400, "a number"),
    (float, np.str_("0.1"), "a number"),
    (float, np.array("2020-01-01", "datetime64[D]"), "a number"),
    (Sequence[int], np.array(3), "value is"),
    (float, 1j, "a number"),
    (bool, 1, "True or False, not 1"),
    (int | None, 0.5, "a whole number or None, not 0.5"),
    (str, b"a", "a text, not b'a'"),
    (Literal["a", "b"], "c", "'a' or 'b', not 'c'"),
    (Literal["a", "b"], ["a"], "'a' or 'b'"),
    (Callable[[int], int], 3, "a function, not 3"),
    (Callable, 3, "a function, not 3"),
    (tuple[int, ...], (1, "a"), "a list in which each is a whole number"),
    (tuple[int, int], (1, 2, 3), r"\(a whole number, a whole number\)"),
    (tuple[str, ...], "none", "a list in which each is a text, not 'none'"),
    (Sequence[float], 3, "a list in which each is a number, not 3"),
    (Mapping[str, int], {"a": "b"}, "a mapping of a text to a whole number"),
    (Mapping[str, int], [("a", 1)], "a mapping"),
    (Point, (1, "a"), "a Point"),
    (jax.Array, "a", "an array, not 'a'"),
    (str | pathlib.Path, 3, "a text or a path, not 3"),
]


@pytest.mark.parametrize(("annotation", "given", "message"), REFUSED)
def test_anything_else_is_refused_with_what_is_allowed(annotation, given, message):
    @checked
    def function(*, value: annotation = None):
        pytest.fail("the function has begun")

    with pytest.raises(ValueError, match=f"^function: .*{message}"):
        function(value=given)


def test_arrays_and_what_has_no_annotation_are_left_to_the_function():
    @checked
    def function(x: jax.Array, other, *more: int, **rest: int):
        return x, other, more, rest

    for x in (jnp.zeros(2), np.zeros(2), 1.0):
        assert function(x, "a", "b", c="d")[0] is x
    assert function(1.0, "a", "b", c="d") == (1.0, "a", ("b",), {"c": "d"})


def test_a_number_that_jax_does_not_know_yet_passes():
    @checked
    def half(rate: float):
        return rate / 2

    assert jax.jit(half)(3.0) == 1.5


def test_names_that_do_not_exist_are_pythons_errors():
    with pytest.raises(TypeError, match="top_edges.*unexpected keyword"):
        dnas.top_edges(edges=2)


def test_fields_are_held_to_their_annotations_too():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        channels: int
        shape: tuple[int, ...] = ()

        def __post_init__(self):
            check_fields(self)

    found = Sizes(np.int64(4), [np.int64(8), 8])
    assert found == Sizes(4, (8, 8)) and type(found.channels) is int and hash(found)
    with pytest.raises(ValueError, match="Sizes: channels is a whole number, not 4.5"):
        Sizes(4.5)
    check_fields(Point(1))
    with pytest.raises(ValueError, match="Point: label is a text, not 3"):
        check_fields(Point(1, 3))


def test_ranges_name_what_is_outside():
    at_least(0, most=9, first=0, last=9)
    with pytest.raises(ValueError, match="last is a whole number from 0 to 9, got 10"):
        at_least(0, most=9, first=0, last=10)


def test_a_whole_number_is_one_of_any_type():
    assert (whole(np.uint8(3)), whole(3), whole(False), whole(3.0), whole("3")) == (
        3,
        3,
        None,
        None,
        None,
    )


# An odd value for every argument of the functions that people begin with, beside those that are
# right.
ODD = [None, True, -1, 0, 1.5, "many", [], {}, 2**63, float("nan"), object(), b"x", np.zeros(2)]
IMAGES, LABELS = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 3
SPACE = dnas.darts_space(ops=("none", "skip_connect"), num_nodes=1)
GENOTYPE = dnas.random_genotype(jax.random.key(0), SPACE)
NETWORK = SPACE.network(GENOTYPE, channels=2, num_cells=1, num_classes=3)
RIGHT = {
    dnas.run_search: dict(
        space=SPACE,
        task=(IMAGES, LABELS),
        method=None,
        model=None,
        channels=2,
        num_cells=1,
        epochs=1,
        batch_size=4,
        max_steps=0,
        seed=0,
        hooks=dnas.QUIET,
    ),
    dnas.retrain: dict(
        network=NETWORK,
        task=(IMAGES, LABELS),
        test=(IMAGES, LABELS),
        epochs=1,
        batch_size=4,
        max_steps=0,
        optimizer=dnas.final_sgd,
        keep=None,
        drop_path=0.2,
        auxiliary_weight=0.4,
        evaluate_every=1,
        seed=0,
        hooks=dnas.QUIET,
    ),
    dnas.darts_space: dict(
        name="mine",
        ops=("none", "skip_connect"),
        num_nodes=1,
        edge_ops=None,
        final_channels=4,
        final_cells=2,
    ),
    SPACE.supernet: dict(
        channels=4,
        num_cells=1,
        num_classes=3,
        partial_channels=1,
        sampled=False,
        schedule=None,
        remat=True,
        dtype=None,
    ),
    dnas.Genotype: dict(
        space="mine",
        cells={"normal": [(0, 1, "skip_connect")]},
        concat={"normal": [1]},
        picks={"kernel": ["k3"]},
    ),
    dnas.CellSpec: dict(
        num_inputs=1,
        num_nodes=1,
        edges=((0, 1),),
        ops=("none", "a"),
        concat=(1,),
        edge_ops=None,
        keep=1,
        nothing=("none",),
    ),
    dnas.count_network: dict(
        space=SPACE,
        genotype=GENOTYPE,
        channels=4,
        num_cells=1,
        num_classes=3,
        image_size=8,
        image_channels=1,
        stem="cifar",
        auxiliary=False,
    ),
    dnas.METHODS["gdas"]: dict(
        space=dnas.SPACES["darts"],
        steps_per_epoch=4,
        epochs=2,
        batch_size=4,
        learning_rate=0.1,
        temperature=10.0,
        sampled=True,
        seed=0,
        arch_every=1,
        warmup=0.0,
        order="arch_first",
        arch_optimizer=None,
    ),
    dnas.hw_loss.measure: dict(
        calls={"a": int}, meter=None, repeats=1, warm_up=1, seed=0, reference=None
    ),
    dnas.tasks.images: dict(
        images=IMAGES,
        labels=LABELS,
        test=None,
        num_classes=3,
        augmentation=None,
        label_smoothing=0.0,
    ),
}
CASES = [
    pytest.param(function, right, name, id=f"{getattr(function, '__name__', function)}-{name}")
    for function, right in RIGHT.items()
    for name in right
]


@pytest.mark.parametrize(("function", "right", "name"), CASES)
def test_an_odd_argument_is_taken_or_refused_with_its_reason(function, right, name, monkeypatch):
    """None is refused by whatever trips over it; nothing is trained for the answer."""
    run, retrain = (sys.modules[f"dnas.{name}"] for name in ("run", "retrain"))
    monkeypatch.setattr(run, "_run_stage", lambda *args: "found")
    monkeypatch.setattr(retrain, "compile_step", lambda *args: pytest.skip("taken"))
    for odd in ODD:
        try:
            function(**right | {name: odd})
        except (ValueError, pytest.skip.Exception):
            continue
