"""What a published method is: a function of a space with a table of settings."""

import numpy as np
import pytest

import dnas
from dnas.methods import FAMILIES, METHODS, Stage, Training, every_stage, published, stages_of
from dnas.selection import strongest_ops

SPACE = dnas.darts_space(name="tiny", ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
TASK = dnas.tasks.images(IMAGES, np.arange(32) % 2)
SIZES = dict(channels=2, num_cells=1, epochs=1, batch_size=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_goes_by_its_name_and_is_for_its_own_space(method):
    found = METHODS[method]
    assert found.name == method and found.__doc__ and found.url.startswith("https://")
    assert found(dnas.SPACES[found.space], steps_per_epoch=7).training.steps_per_epoch == 7


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_settings_for_kinds_of_spaces_that_exist_and_for_no_other(method):
    found = METHODS[method]
    assert set(found.settings) <= set(FAMILIES) and set(found.retraining) <= set(found.settings)
    for space in dnas.SPACES.values():
        if space.family not in found.settings:
            with pytest.raises(ValueError, match=f"{method}' is not for the space '{space.name}'"):
                found(space, steps_per_epoch=7)


def test_settings_of_the_method_go_before_those_of_the_kind_of_space_and_these_before_darts():
    @published("x", "https://example.org", settings={"nasbench201": {"nesterov": False, "own": 1}})
    def method(space, training, *, own):
        return dnas.Method(arch_losses=[(own, dnas.arch_losses.l2())])

    space = dnas.SPACES["nasbench201"]
    settings = method.settings_in(space)
    assert (settings["nesterov"], settings["order"], settings["own"]) == (False, "weights_first", 1)
    assert settings["momentum"] == Training.momentum
    made = method(space, steps_per_epoch=3, own=2, momentum=0.5)
    assert made.arch_losses[0][0] == 2 and made.training.momentum == 0.5
    with pytest.raises(ValueError, match=r"no setting 'momentun'; did you mean 'momentum'\?"):
        method(space, steps_per_epoch=3, momentun=0.5)


def test_a_search_of_another_length_than_the_method_was_made_for_is_refused():
    method = dnas.methods.darts1(SPACE, steps_per_epoch=9, **SIZES)
    with pytest.raises(ValueError, match="1 epochs of 9 steps, the search has 1 of 2; make it"):
        dnas.run_search(SPACE, TASK, method)
    method = dnas.methods.darts1.for_task(SPACE, TASK, **SIZES)
    assert method.training.steps_per_epoch == 2
    with pytest.raises(ValueError, match="the search has 2 of 2"):
        dnas.run_search(SPACE, TASK, method, epochs=2)


@pytest.mark.slow
def test_a_name_of_the_library_is_a_method_for_the_task():
    quiet = dnas.QUIET
    by_function = dnas.run_search(SPACE, TASK, METHODS["darts1"], hooks=quiet, **SIZES)
    method = METHODS["darts1"].for_task(SPACE, TASK, **SIZES)
    by_value = dnas.run_search(SPACE, TASK, method, hooks=quiet)
    plain = dnas.run_search(SPACE, TASK, hooks=quiet, **SIZES)
    for other in (by_value, plain):
        for kind, rows in by_function.mix.items():
            np.testing.assert_array_equal(rows, other.mix[kind])


def test_what_is_no_method_is_refused():
    with pytest.raises(
        ValueError, match="method is a Method or a Published or None, not <function"
    ):
        dnas.run_search(SPACE, TASK, lambda space, training: dnas.Method())


def test_a_seed_that_is_none_and_hooks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="seed is a whole number from 0 to .* got -1"):
        dnas.run_search(SPACE, TASK, METHODS["darts1"], seed=-1)
    with pytest.raises(ValueError, match="for stage 0 it returned 0"):
        dnas.run_search(SPACE, TASK, METHODS["darts1"], hooks=int, **SIZES)


def test_a_change_of_every_stage_reaches_all_of_them():
    method = dnas.methods.p_darts(dnas.SPACES["darts"], steps_per_epoch=9)
    changed = every_stage(method, lambda own: own._replace(options={"remat": True}))
    assert [dict(stage.method.options) for stage in stages_of(changed)] == [{"remat": True}] * 3
    depths = [stage.method.training.num_cells for stage in stages_of(changed)]
    assert depths == [5, 11, 17]


@pytest.mark.slow
def test_a_stage_begins_with_what_the_one_before_has_found():
    seen = []

    def keep(result):
        seen.append(result)
        return strongest_ops(result.mix, result.state.candidates, 1)

    def begin(state, result):
        return state._replace(arch=result.state.arch)

    first = METHODS["darts1"].for_task(SPACE, TASK, **SIZES)
    method = first._replace(stages=[Stage(first, candidates=keep, begin=begin)])
    numbers = []

    def hooks(number):
        numbers.append(number)
        return dnas.QUIET

    result = dnas.run_search(SPACE, TASK, method, hooks=hooks, max_steps=1)
    assert numbers == [0, 1] and len(seen) == 1
    kept = keep(seen[0])
    for kind, rows in result.mix.items():
        assert (np.asarray(rows) > 0).sum() == kept[kind].sum()
