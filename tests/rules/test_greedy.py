"""SGAS: which edge is decided when, and what is left in the end."""

import dataclasses

import numpy as np
import pytest
from fakes import Run, everything, mix_of, random_logits

import dnas
from dnas.graph import CellSpec
from dnas.rules import greedy, greedy_epochs
from dnas.selection import top_edges
from dnas.space import SearchSpace

DARTS = dnas.SPACES["darts"]
EPOCHS = greedy_epochs(DARTS)


def changing(seed=0):
    """epoch -> logits that wander."""
    return lambda epoch: {
        kind: rows + random_logits(DARTS, epoch)[kind]
        for kind, rows in random_logits(DARTS, seed).items()
    }


def decided_at(run):
    return [
        epoch for epoch, verdict in enumerate(run.verdicts, 1) if verdict.candidates is not None
    ]


@pytest.mark.parametrize("criterion", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_node_ends_with_two_edges_of_one_op_that_is_not_none(criterion, seed):
    run = Run(greedy(criterion=criterion), DARTS, changing(seed), EPOCHS)
    for kind, spec in DARTS.cells.items():
        left = run.candidates[kind]
        assert set(left.sum(1)) == {0, 1} and not left[:, 0].any()
        assert all(left[list(spec.incoming(node))].sum() == 2 for node in spec.nodes)
    assert not run.verdict.stop and run.epoch == EPOCHS


def test_one_edge_of_each_kind_is_decided_every_fifth_epoch_after_the_warm_up():
    run = Run(greedy(), DARTS, changing(), EPOCHS)
    assert decided_at(run) == [*range(10, 46, 5), 50]  # nothing is left to do in the last epoch
    assert [run.metric("decided")[epoch] for epoch in range(10, 46, 5)] == list(range(2, 17, 2))


def test_a_short_search_decides_everything_in_its_last_epoch():
    run = Run(greedy(), DARTS, changing(), 12)
    assert decided_at(run) == [10, 12]
    assert run.metric("decided") == {**dict.fromkeys(range(1, 10), 0.0), 10: 2.0, 11: 2.0, 12: 16.0}


def test_decisions_are_those_of_the_last_verdict_and_of_the_mix():
    run = Run(greedy(), DARTS, changing(), EPOCHS)
    genotype = top_edges()(DARTS, run.verdict.mix)
    for kind, spec in DARTS.cells.items():
        kept = {(*spec.edges[edge], spec.ops[op]) for edge, op in np.argwhere(run.candidates[kind])}
        assert set(genotype.cells[kind]) == kept


ONE_CELL = SearchSpace(
    "one",
    {
        "cell": CellSpec(
            2,
            2,
            ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)),
            ("none", "a", "b", "c"),
            (2, 3),
            keep=2,
        )
    },
    None,
    None,
    None,
)


def first_decision(rows):
    """The (edge, op) that is decided after one epoch without a warm-up."""
    logits = {"cell": np.log(np.array(rows))}
    run = Run(greedy(warm_up=0), ONE_CELL, lambda epoch: logits, 2)
    before, after = everything(ONE_CELL)["cell"], run.verdicts[0].candidates["cell"]
    (edge,) = np.flatnonzero(after.sum(1) == 1)
    assert (after[np.arange(5) != edge] == before[np.arange(5) != edge]).all()
    return int(edge), ONE_CELL.cells["cell"].ops[after[edge].argmax()]


def test_the_first_edge_has_the_highest_product_of_importance_and_certainty():
    """The score written out with loops: sum without none, entropy of the rest over log 3, both from
    0 to 1 over the edges."""
    random = np.random.default_rng(0)
    for _ in range(20):
        rows = random.dirichlet(np.ones(4), 5)
        importance = [sum(row[1:]) for row in rows]
        certainty = []
        for row, mass in zip(rows, importance, strict=True):
            certainty.append(1 + sum(p / mass * np.log(p / mass) for p in row[1:]) / np.log(3))
        # Fmt: skip.
        scores = [
            (importance[e] - min(importance))
            / (max(importance) - min(importance))
            * (certainty[e] - min(certainty))
            / (max(certainty) - min(certainty))
            for e in range(5)
        ]
        best = int(np.argmax(scores))
        assert first_decision(rows) == (best, "abc"[int(np.argmax(rows[best][1:]))])


def test_none_weighs_against_its_edge_and_is_never_kept():
    rows = [[0.7, 0.29, 0.005, 0.005]] + [[0.1, 0.5, 0.2, 0.2]] * 4
    rows[3] = [0.05, 0.55, 0.2, 0.2]
    assert first_decision(rows) == (3, "a")
    assert first_decision([[0.97, 0.01, 0.01, 0.01]] * 5) == (0, "a")


def test_a_factor_that_is_equal_everywhere_decides_nothing():
    same_importance = [
        [0.1, 0.3, 0.3, 0.3],
        [0.1, 0.4, 0.3, 0.2],
        [0.1, 0.1, 0.6, 0.2],
        [0.1, 0.2, 0.3, 0.4],
        [0.1, 0.3, 0.3, 0.3],
    ]
    assert first_decision(same_importance) == (2, "b")
    same_certainty = [
        [1 - share, share / 2, share / 4, share / 4] for share in (0.25, 0.5, 0.75, 0.375, 0.625)
    ]
    assert first_decision(same_certainty) == (2, "a")


def test_second_criterion_prefers_an_edge_that_has_not_changed():
    """Two edges that look the same now: one has been so all along, the other has swapped its ops
    every epoch."""

    def logits(epoch):
        rows = np.full((5, 4), 0.25)
        rows[1] = [0.01, 0.97, 0.01, 0.01] if epoch % 2 else [0.01, 0.01, 0.97, 0.01]
        rows[3] = [0.01, 0.97, 0.01, 0.01]
        rows[4] = [0.01, 0.5, 0.48, 0.01]
        return {"cell": np.log(rows)}

    for criterion, expected in ((1, 1), (2, 3)):
        run = Run(greedy(criterion=criterion, warm_up=8), ONE_CELL, logits, 9 + 5)
        (edge,) = np.flatnonzero(run.verdicts[8].candidates["cell"].sum(1) == 1)
        assert edge == expected


def test_history_is_the_last_epochs_only():
    rows = {epoch: random_logits(ONE_CELL, epoch) for epoch in range(1, 10)}
    run = Run(greedy(criterion=2, history=3, warm_up=50), ONE_CELL, rows.__getitem__, 9)
    for place, epoch in enumerate((7, 8, 9)):
        shares = mix_of(rows[epoch], everything(ONE_CELL))["cell"][:, 1:]
        np.testing.assert_allclose(
            run.state.history["cell"][place, :, 1:],
            shares / shares.sum(1, keepdims=True),
            rtol=1e-5,
        )


def test_a_node_with_two_decided_edges_drops_its_others():
    rows = [[0.4, 0.2, 0.2, 0.2]] * 2 + [
        [0.01, 0.97, 0.01, 0.01],
        [0.4, 0.2, 0.2, 0.2],
        [0.01, 0.01, 0.96, 0.02],
    ]
    run = Run(greedy(warm_up=0, interval=1), ONE_CELL, lambda epoch: {"cell": np.log(rows)}, 20)
    left = run.verdicts[1].candidates["cell"]
    np.testing.assert_array_equal(left.sum(1), [4, 4, 1, 0, 1])
    assert decided_at(run)[:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("options", [{"criterion": 3}, {"interval": 0}, {"history": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=r"criterion is 1 or 2, got 3|at least 1, got"):
        greedy(**options)


def keeping(keep):
    """The space of one cell whose nodes keep so many edges."""
    spec = dataclasses.replace(ONE_CELL.cells["cell"], keep=keep)
    return ONE_CELL._replace(cells={"cell": spec})


def test_as_many_edges_are_decided_as_a_node_keeps():
    logits = {"cell": np.random.default_rng(0).normal(size=(5, 4))}
    run = Run(greedy(warm_up=0, interval=1), keeping(1), lambda epoch: logits, 4)
    left = run.candidates["cell"]
    assert [left[list(group)].sum() for group in ((0, 1), (2, 3, 4))] == [1, 1]
    assert greedy_epochs(keeping(1)) == 9 + 1 + 5 * (2 - 1) + 5


def test_nodes_that_keep_all_of_their_edges_or_more_are_refused():
    with pytest.raises(ValueError, match="a node of cell 'cell' keeps 3.*'0->2', '1->2'"):
        greedy().init(keeping(3), 50)
    with pytest.raises(ValueError, match="'cell' in the space 'one' keep all of theirs"):
        greedy().init(keeping(None), 50)
