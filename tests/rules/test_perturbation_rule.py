"""DARTS-PT: what is measured, what is kept, and on a real supernet the op that matters instead of
the one that weighs most."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import Run, everything, mix_of, random_logits
from supernets import logits_of, weights_of

import dnas
from dnas.rules import Observed, perturbation, perturbation_epochs
from dnas.selection import random_genotype, top_edges
from dnas.space import one_hot_mix

DARTS = dnas.SPACES["darts"]
WITHOUT_NONE = dnas.darts_space(name="without_none", ops=dnas.spaces.DARTS_OPS[1:])


def worth(space, seed=0):
    """(accuracy, gains): an accuracy that adds up what each present op gains, whatever its weight;
    and those gains."""
    random = np.random.default_rng(seed)
    gains = {
        kind: random.uniform(0.001, 0.01, (len(spec.edges), len(spec.ops)))
        for kind, spec in space.cells.items()
    }

    def accuracy(mix):
        accuracy.calls += 1
        return sum(float(gains[kind][np.asarray(mix[kind]) > 0].sum()) for kind in gains)

    accuracy.calls = 0
    return accuracy, gains


def run_with(accuracy, space=DARTS, logits=None, *, interval=5, seed=0):
    logits, epochs = (
        random_logits(space) if logits is None else logits,
        perturbation_epochs(space, interval=interval),
    )
    return Run(
        perturbation(interval=interval, seed=seed), space, lambda epoch: logits, epochs, accuracy
    )


def test_ops_and_edges_are_kept_by_what_their_removal_costs_and_not_by_their_logits():
    accuracy, gains = worth(DARTS)
    run = run_with(accuracy)
    for kind, spec in DARTS.cells.items():
        best = 1 + gains[kind][:, 1:].argmax(1)
        for node in spec.nodes:
            kept = sorted(
                spec.incoming(node),
                key=lambda edge, kind=kind, best=best: -gains[kind][edge, best[edge]],
            )[:2]
            for edge in spec.incoming(node):
                expected = np.arange(8) == best[edge] if edge in kept else np.zeros(8, bool)
                np.testing.assert_array_equal(run.candidates[kind][edge], expected)
    genotype = top_edges()(DARTS, run.verdict.mix)
    assert genotype != top_edges()(DARTS, mix_of(random_logits(DARTS), everything(DARTS)))


@pytest.mark.parametrize("seed", range(3))
def test_planted_genotype_is_recovered_against_the_logits(seed):
    planted = random_genotype(jax.random.key(seed), DARTS)
    target = {kind: np.asarray(rows) for kind, rows in one_hot_mix(DARTS, planted).items()}
    against = {kind: -5.0 * rows for kind, rows in target.items()}

    def accuracy(mix):
        return (
            sum(float((target[kind] * (np.asarray(mix[kind]) > 0)).sum()) for kind in target) / 16
        )

    run = run_with(accuracy, logits=against, seed=seed)
    found = top_edges()(DARTS, run.verdict.mix)
    assert {kind: set(edges) for kind, edges in found.cells.items()} == {
        k: set(e) for k, e in planted.cells.items()
    }
    by_logits = top_edges()(DARTS, mix_of(against, everything(DARTS)))
    assert not any(set(by_logits.cells[kind]) & set(planted.cells[kind]) for kind in planted.cells)


@pytest.mark.parametrize("space", [DARTS, WITHOUT_NONE])
def test_evaluations_are_the_candidates_of_all_edges_and_then_the_edges_at_crowded_nodes(space):
    accuracy, _ = worth(space)
    run_with(accuracy, space)
    ops = 2 * 14 * 7
    edges = 2 * (3 + (4 + 3) + (5 + 4 + 3))
    assert accuracy.calls == ops + edges


@pytest.mark.parametrize(("interval", "from_epoch"), [(5, 1), (10, 1), (1, 1), (2, 7)])
def test_events_fall_every_interval_and_the_search_ends_with_the_last(interval, from_epoch):
    accuracy, _ = worth(DARTS)
    length = perturbation_epochs(DARTS, interval=interval, from_epoch=from_epoch)
    assert length == interval * (14 + 3 - 1) + from_epoch
    run = Run(
        perturbation(interval=interval, from_epoch=from_epoch),
        DARTS,
        lambda _: random_logits(DARTS),
        length + 9,
        accuracy,
    )
    assert run.epoch == length and run.verdict.stop
    assert list(run.metric("projected")) == list(range(from_epoch, length + 1, interval))


def test_each_event_decides_one_edge_of_each_kind():
    accuracy, _ = worth(DARTS)
    run = run_with(accuracy, interval=1)
    for number, verdict in enumerate(run.verdicts[:14], 1):
        assert [(rows.sum(1) == 1).sum() for rows in verdict.candidates.values()] == [
            number,
            number,
        ]
    for number, verdict in enumerate(run.verdicts[14:], 1):
        assert all((rows.sum(1) == 0).sum() >= number for rows in verdict.candidates.values())


def test_final_mix_has_weight_one_on_two_edges_of_each_node():
    accuracy, _ = worth(DARTS)
    run = run_with(accuracy)
    for kind, spec in DARTS.cells.items():
        rows = run.verdict.mix[kind]
        np.testing.assert_array_equal(rows, run.candidates[kind])
        assert [rows[list(spec.incoming(node))].sum() for node in spec.nodes] == [2, 2, 2, 2]


def test_one_weight_is_zeroed_and_the_others_are_left_as_they_are():
    seen, logits = [], random_logits(DARTS)
    state = perturbation().init(DARTS, 100)
    mix = mix_of(logits, everything(DARTS))
    observed = Observed(DARTS, 1, mix, everything(DARTS), lambda mix: seen.append(mix) or 0.5, None)
    perturbation().update(state, observed)
    edge = state.order["normal"][0]
    for op, perturbed in enumerate(seen[:7], 1):
        expected = mix["normal"].copy()
        expected[edge, op] = 0
        np.testing.assert_array_equal(perturbed["normal"], expected)
        np.testing.assert_array_equal(perturbed["reduce"], mix["reduce"])
    # A tie: the first.
    assert all(
        perturbed["normal"][edge].tolist() == [0, 1, 0, 0, 0, 0, 0, 0] for perturbed in seen[7:]
    )


def test_edges_dropped_at_a_node_stay_dropped_while_the_next_is_measured():
    """Inputs 0 and 1 say the same: either can go, not both."""
    space = dnas.darts_space(name="tiny", ops=("skip_connect",), num_nodes=3)
    (row, spec) = 5, space.cells["normal"]  # the edges into node 4 are rows 5 to 8
    assert spec.edges[row : row + 4] == ((0, 4), (1, 4), (2, 4), (3, 4))

    def accuracy(mix):
        zero, one, two, three = np.asarray(mix["normal"])[row : row + 4, 0] > 0
        return 0.5 * (zero or one) + 0.1 * two + 0.2 * three

    run = run_with(accuracy, space)
    assert run.candidates["normal"][row : row + 4, 0].tolist() == [True, False, False, True]


def test_a_copy_of_zero_is_never_kept_unless_all_are():
    accuracy, gains = worth(WITHOUT_NONE)
    gains["normal"][:, 2] = 0.0  # the skip connection adds nothing
    gains["reduce"][:] = 0.0
    run = run_with(
        accuracy, WITHOUT_NONE, logits={kind: np.eye(14, 7)[[2] * 14] * 9 for kind in gains}
    )
    assert not run.candidates["normal"][:, 2].any()
    assert run.candidates["reduce"].argmax(1).max() == 0  # all tie: the first


def test_order_is_random_and_a_function_of_the_seed():
    one, again, other = (perturbation(seed=seed).init(DARTS, 100) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.order["normal"], again.order["normal"])
    assert (one.order["normal"] != other.order["normal"]).any()
    assert (one.order["normal"] != one.order["reduce"]).any()
    assert sorted(one.order["reduce"][:14]) == list(range(14))
    # groups of the edges into nodes 3, 4 and 5
    assert sorted(one.order["reduce"][14:]) == [1, 2, 3]


def test_a_search_that_would_end_too_early_is_refused():
    with pytest.raises(ValueError, match="needs 81 epochs in this space, the search has 50"):
        perturbation().init(DARTS, 50)


@pytest.mark.parametrize("options", [{"interval": 0}, {"from_epoch": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="at least 1, got"):
        perturbation(**options)


def test_useful_op_of_a_real_supernet_is_kept_where_the_largest_logit_is_another():
    """Labels are what the supernet says with a separable convolution on one edge alone; the logits
    prefer the pooling there."""
    space = dnas.darts_space(
        name="two_ops", ops=("none", "avg_pool_3x3", "sep_conv_3x3"), num_nodes=1
    )
    supernet = space.supernet(channels=4, num_cells=1, num_classes=4)
    images = jax.random.normal(jax.random.key(1), (64, 8, 8, 1))
    weights = weights_of(supernet)(jax.random.key(0), images)
    predict = jax.jit(lambda mix: logits_of(supernet)(weights, mix, images).argmax(-1))
    labels = predict({kind: jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]) for kind in space.cells})

    used = space.layers(channels=4, num_cells=1, image_size=8)[0].kind
    # That edge first.
    seed = next(
        seed for seed in range(99) if perturbation(seed=seed).init(space, 99).order[used][0] == 0
    )
    logits = {kind: np.array([[0.0, 1.0, 0.0], [9.0, 0.0, 0.0]]) for kind in space.cells}
    run = run_with(lambda mix: float((predict(mix) == labels).mean()), space, logits, seed=seed)
    chosen, by_logits = (
        top_edges()(space, mix).cells[used] for mix in (run.verdict.mix, run.mixes[0])
    )
    assert dnas.Edge(0, 2, "sep_conv_3x3") in chosen
    assert dnas.Edge(0, 2, "avg_pool_3x3") in by_logits
