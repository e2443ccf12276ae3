"""Guards on a search that collapses to skip connections, and on scripts of their own."""

import jax
import numpy as np
import pytest
from fakes import Run, drift_to_skip, everything, mix_of, random_logits, same_mix

import dnas
from dnas.rules import RULES, Observed, chain, eigenvalue, perturbation_epochs, ranking, skip_count
from dnas.selection import top_edges

DARTS = dnas.SPACES["darts"]
EPOCHS = 80
COLLAPSE = drift_to_skip(DARTS)


def growing(epoch):
    """An eigenvalue that is flat at first and then grows."""
    return 0.1 * 1.15 ** max(epoch - 20, 0)


def skips(mix):
    return top_edges()(DARTS, mix).count("skip_connect")["normal"]


@pytest.fixture(params=["skip_count", "ranking", "eigenvalue"])
def guarded(request):
    return Run(RULES[request.param](), DARTS, COLLAPSE, EPOCHS, sharpness=growing)


def test_the_problem_collapses():
    assert skips(mix_of(COLLAPSE(EPOCHS), everything(DARTS))) == 8
    assert skips(mix_of(COLLAPSE(1), everything(DARTS))) <= 1


def test_guard_stops_a_collapse_before_the_end_and_returns_an_earlier_epoch(guarded):
    assert guarded.verdict.stop and guarded.epoch < EPOCHS
    places = [
        number for number, mix in enumerate(guarded.mixes) if same_mix(guarded.verdict.mix, mix)
    ]
    assert len(places) == 1 and places[0] < guarded.epoch - 1
    assert guarded.verdict.candidates is None


def test_guard_lets_a_steady_search_run_to_its_end():
    noise = {epoch: random_logits(DARTS, epoch) for epoch in range(1, 31)}
    for name, kwargs in (("ranking", {}), ("eigenvalue", {}), ("skip_count", {"max_skips": 8})):
        run = Run(
            RULES[name](**kwargs),
            DARTS,
            noise.__getitem__,
            30,
            sharpness=lambda epoch: 1 + 0.1 * (epoch % 3),
        )
        assert run.epoch == 30 and not run.verdict.stop and run.verdict.mix is None


def test_state_keeps_its_shapes_and_types_and_is_never_changed_in_place():
    """It is part of a checkpoint."""
    for name, factory in RULES.items():
        rule, epochs = factory(), perturbation_epochs(DARTS)
        state, logits = rule.init(DARTS, epochs), COLLAPSE
        for epoch in range(1, 31):
            mix = mix_of(logits(epoch), everything(DARTS))
            before = jax.tree.map(np.array, state)
            seen = Observed(
                DARTS,
                epoch,
                mix,
                everything(DARTS),
                lambda mix: 0.5,
                lambda epoch=epoch: growing(epoch),
            )
            following, _ = rule.update(state, seen)
            again, _ = rule.update(state, seen)
            assert jax.tree.structure(before) == jax.tree.structure(following), name
            for old, kept, new, twice in zip(
                *map(jax.tree.leaves, (before, state, following, again)), strict=True
            ):
                assert isinstance(new, np.ndarray) and (new.shape, new.dtype) == (
                    old.shape,
                    old.dtype,
                ), name
                np.testing.assert_array_equal(old, kept)
                np.testing.assert_array_equal(new, twice)
            state = following


# The number of skip connections


def test_skip_count_stops_at_the_first_epoch_above_the_bound_and_returns_the_last_within():
    run = Run(skip_count(from_epoch=1), DARTS, COLLAPSE, EPOCHS)
    counts = [skips(mix) for mix in run.mixes]
    assert counts[-1] >= 2 and max(counts[:-1]) <= 1
    assert same_mix(run.verdict.mix, run.mixes[-2])
    assert list(run.metric("skips").values()) == counts


def test_skip_count_at_stop_returns_the_genotype_of_the_paper():
    run = Run(skip_count(from_epoch=1, at_stop=True), DARTS, COLLAPSE, EPOCHS)
    assert run.verdict.mix is None and skips(run.mixes[-1]) == 2


@pytest.mark.parametrize("bound", [0, 3, 5])
def test_skip_count_keeps_any_bound(bound):
    run = Run(skip_count(max_skips=bound, from_epoch=1), DARTS, COLLAPSE, EPOCHS)
    assert skips(run.verdict.mix) <= bound < skips(run.mixes[-1])


def test_skip_count_waits_for_its_first_epoch_and_remembers_what_was_before():
    early = Run(skip_count(from_epoch=1), DARTS, COLLAPSE, EPOCHS)
    late = Run(skip_count(from_epoch=early.epoch + 5), DARTS, COLLAPSE, EPOCHS)
    assert late.epoch == early.epoch + 5
    assert skips(late.verdict.mix) <= 1


def test_skip_count_without_an_epoch_within_the_bound_has_nothing_but_the_present():
    run = Run(skip_count(max_skips=1), DARTS, lambda epoch: COLLAPSE(EPOCHS), EPOCHS)
    assert run.epoch == 10 and run.verdict.stop and run.verdict.mix is None


def test_skip_count_looks_at_its_kind_only():
    def logits(epoch):
        return {"normal": random_logits(DARTS)["normal"], "reduce": COLLAPSE(EPOCHS)["reduce"]}

    assert not Run(skip_count(max_skips=8), DARTS, logits, 12).verdict.stop
    assert Run(skip_count(kind="reduce"), DARTS, logits, 12).verdict.stop


# The ranking


def turning(epochs_of_change, seed=0):
    """epoch -> logits in which one edge changes its strongest op at these epochs, while all weights
    go on growing."""

    def logits(epoch):
        found = {kind: rows * (1 + epoch / 10) for kind, rows in random_logits(DARTS, seed).items()}
        turns = sum(epoch >= change for change in epochs_of_change)
        found["reduce"][5, 4 + turns % 2] += 50
        return found

    return logits


@pytest.mark.parametrize(
    ("changes", "patience", "settled"),
    [((), 10, 1), ((5, 14), 10, 14), ((5, 17), 10, 5), ((3,), 4, 3)],
)
def test_ranking_stops_when_nothing_changed_for_so_many_epochs(changes, patience, settled):
    run = Run(ranking(patience=patience), DARTS, turning(changes), 40)
    assert run.epoch == settled + patience
    assert same_mix(run.verdict.mix, run.mixes[settled - 1])


def test_ranking_returns_the_same_ops_as_the_epoch_of_the_stop():
    run = Run(ranking(), DARTS, COLLAPSE, EPOCHS)
    for kind, rows in run.verdict.mix.items():
        np.testing.assert_array_equal(rows[:, 1:].argmax(1), run.mixes[-1][kind][:, 1:].argmax(1))


def test_ranking_ignores_none():
    def logits(epoch):
        found = random_logits(DARTS)
        found["normal"][:, 0] += 10 * (-1) ** epoch  # strongest in every other epoch
        return found

    assert Run(ranking(), DARTS, logits, 40).epoch == 11


def test_ranking_does_not_count_a_warm_up():
    assert Run(ranking(from_epoch=15), DARTS, turning(()), 40).epoch == 25


# The eigenvalue


def test_eigenvalue_stops_by_the_rule_of_the_released_code():
    """Centred averages of 5, written out with lists; the ratio over 4 measurements; the epoch at
    the older centre, numbered from 0 there."""
    random = np.random.default_rng(0)
    values = {epoch: (1 + epoch / 10) * random.uniform(0.8, 1.2) for epoch in range(1, 100, 2)}
    measured, stop = [], None
    for epoch, value in values.items():
        measured.append(value)
        centre = len(measured) - 1 - 2
        averages = [np.mean(measured[max(0, j - 2) : j + 3]) for j in range(centre + 1)]
        if epoch - 1 - 4 - 8 >= 10 and averages[centre] / averages[centre - 4] > 1.3:
            stop = epoch
            break
    run = Run(eigenvalue(), DARTS, COLLAPSE, 99, sharpness=values.__getitem__)
    assert run.epoch == stop
    assert same_mix(run.verdict.mix, run.mixes[stop - 12 - 1])
    assert run.metric("eigenvalue") == {epoch: values[epoch] for epoch in range(1, stop + 1, 2)}
    now, before = (run.metric(f"eigenvalue_{name}")[stop] for name in ("now", "before"))
    assert now > 1.3 * before


def test_eigenvalue_asks_for_the_curvature_every_second_epoch_only():
    asked = []
    Run(eigenvalue(), DARTS, COLLAPSE, 11, sharpness=lambda epoch: asked.append(epoch) or 1.0)
    assert asked == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize(
    ("every", "window", "back", "from_epoch"),
    [(1, 1, 1, 1), (1, 1, 3, 5), (3, 3, 2, 6), (2, 5, 4, 10)],
)
def test_eigenvalue_cannot_return_what_lies_before_its_first_epoch(every, window, back, from_epoch):
    rule = eigenvalue(every=every, window=window, back=back, from_epoch=from_epoch)
    run = Run(rule, DARTS, COLLAPSE, 60, sharpness=lambda epoch: 10.0**epoch)
    returned = run.epoch - every * (window // 2 + back)
    assert same_mix(run.verdict.mix, run.mixes[returned - 1])
    assert from_epoch <= returned < from_epoch + every


@pytest.mark.parametrize("ratio", [1.29, 1.31])
def test_eigenvalue_compares_with_its_threshold(ratio):
    rule = eigenvalue(every=1, window=1, back=1, from_epoch=1)
    run = Run(rule, DARTS, COLLAPSE, 5, sharpness=lambda epoch: ratio**epoch)
    assert run.verdict.stop == (ratio > 1.3)


@pytest.mark.parametrize(
    "value", [lambda epoch: -(2.0**epoch), lambda epoch: epoch - 30.0, lambda epoch: 0.0]
)
def test_eigenvalue_that_is_not_positive_triggers_nothing(value):
    assert not Run(eigenvalue(), DARTS, COLLAPSE, 26, sharpness=value).verdict.stop


# Several at once


def test_chain_stops_with_the_first_and_logs_all():
    rules = skip_count(), eigenvalue(), ranking()
    alone = [Run(rule, DARTS, COLLAPSE, EPOCHS, sharpness=growing) for rule in rules]
    run = Run(chain(*rules), DARTS, COLLAPSE, EPOCHS, sharpness=growing)
    first = min(alone, key=lambda run: run.epoch)
    assert run.epoch == first.epoch and same_mix(run.verdict.mix, first.verdict.mix)
    assert set(run.verdict.metrics) >= {"skips", "unchanged"}
    assert run.metric("eigenvalue").keys() == {epoch for epoch in range(1, run.epoch + 1, 2)}


def test_chain_of_nothing_changes_nothing():
    run = Run(chain(), DARTS, COLLAPSE, 3)
    assert run.verdicts == [dnas.rules.Verdict()] * 3


def test_chain_intersects_candidates():
    def dropper(column):
        def update(state, seen):
            rows = {kind: np.array(left) for kind, left in everything(DARTS).items()}
            for left in rows.values():
                left[:, column] = False
            return state, dnas.rules.Verdict(candidates=rows)

        return dnas.rules.Rule(lambda space, epochs: (), update)

    run = Run(chain(dropper(3), dropper(5), skip_count(max_skips=0)), DARTS, COLLAPSE, EPOCHS)
    expected = np.ones((14, 8), bool)
    expected[:, [3, 5]] = False
    np.testing.assert_array_equal(run.candidates["normal"], expected)
    # Rules see what those before them dropped.
    assert run.epoch == EPOCHS and set(run.metric("skips").values()) == {0.0}


BAD = {
    "skips": (lambda: skip_count(max_skips=-1), "max_skips.*-1"),
    "kind": (lambda: skip_count(kind="cell").init(DARTS, 5), "'cell'.*normal, reduce"),
    "patience": (lambda: ranking(patience=0), "patience = 0"),
    "every": (lambda: eigenvalue(every=0), "at least 1, got 0, 5 and 4"),
    "window": (lambda: eigenvalue(window=0), "at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_refused(name):
    make, reason = BAD[name]
    with pytest.raises(ValueError, match=reason):
        make()
