"""Random search with weight sharing: it ranks what it trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_values import DARTS_ON_TEXTS, TINY, task_of
from small_searches import (
    DARTS,
    NASBENCH201,
    SMALL,
    SMALL_201,
    published,
    settings_of,
    small_search,
)

import dnas
from dnas.methods import METHODS
from dnas.selection.best_of_samples import sample_genotype


def test_settings_are_those_of_the_releases():
    """liamcli/randomNAS_release, searchers/random_weight_share.py; AutoDL-Projects, RANDOM.config
    and RANDOM-NAS.py."""
    assert settings_of("random_ws", "darts") == published(
        DARTS, warmup=1.0, samples=1000, finalists=10, batches=10, sampled=True
    )
    own = dict(warmup=1.0, samples=1000, finalists=10, batches=10)
    assert settings_of("random_ws", "fbnet") == published(DARTS, sampled=True, **own)
    assert settings_of("random_ws", "recurrent") == published(DARTS_ON_TEXTS, sampled=False, **own)
    assert settings_of("random_ws", "nasbench201") == published(
        NASBENCH201, warmup=1.0, epochs=250, samples=100, finalists=1, batches=8, sampled=True
    )


SPACES = {"darts": SMALL, "nasbench201": SMALL_201, "s1": dnas.SPACES["s1"]}


@functools.cache
def trained_and_ranked(name, number=300):
    """One-hot mixes that steps of a search train, and those that it ranks at the end."""
    space = SPACES[name]
    relaxation = METHODS["random_ws"](space, steps_per_epoch=1).relaxation
    trained, ranked, read = [], [], {}
    for kind, choices in space.choices.items():
        arch = relaxation.init(jax.random.key(0), choices)
        read[kind] = np.asarray(relaxation.read(arch, choices))
    for key in jax.random.split(jax.random.key(1), number):
        parts = jax.random.split(key, len(space.choices))
        mix = {}
        for (kind, choices), part in zip(space.choices.items(), parts, strict=True):
            arch = relaxation.init(part, choices)
            mix[kind] = np.asarray(relaxation.sample(part, arch, choices, jnp.zeros((), int)))
        trained.append(mix)
        genotype = sample_genotype(key, space, read)
        one_hot = dnas.one_hot_mix(space, genotype)
        ranked.append({kind: np.asarray(rows) for kind, rows in one_hot.items()})
    return trained, ranked


@pytest.mark.parametrize("name", SPACES)
def test_every_path_that_is_trained_is_that_of_a_genotype(name):
    space = SPACES[name]
    for mix in trained_and_ranked(name)[0]:
        genotype = dnas.default_selection(space, mix)
        one_hot = dnas.one_hot_mix(space, genotype)
        for kind, rows in mix.items():
            np.testing.assert_array_equal(rows, one_hot[kind])


@pytest.mark.parametrize("name", SPACES)
def test_options_are_trained_as_often_as_they_are_ranked(name):
    trained, ranked = trained_and_ranked(name)
    for kind, choices in SPACES[name].choices.items():
        counts = [np.mean([mix[kind] for mix in mixes], axis=0) for mixes in (trained, ranked)]
        places = sum(choices.places(group) for group in choices.groups)
        assert counts[0].sum() == pytest.approx(places) == counts[1].sum()
        # four deviations of the difference of two shares of 300
        np.testing.assert_allclose(counts[0], counts[1], atol=4 * np.sqrt(0.5 / 300))


def kendall(one, other):
    """tau of two scores without ties."""
    signs = [np.sign(np.subtract.outer(scores, scores)) for scores in map(np.asarray, (one, other))]
    return (signs[0] * signs[1]).sum() / (len(one) * (len(one) - 1))


def test_shared_weights_rank_trained_paths_and_ranked_cells_alike():
    """A planted space: an op of an edge is worth something, which weights learn a part of whenever
    they are trained; what they say of a cell is the mean over what it has. Paths of another
    population, with an op on every edge, are ranked on another scale."""
    trained, ranked = trained_and_ranked("darts")
    random = np.random.default_rng(0)
    worth = {kind: random.normal(size=own.shape) for kind, own in SMALL.choices.items()}
    visits = {kind: sum(mix[kind] for mix in trained) for kind in worth}
    learnt = {kind: worth[kind] * (1 - 0.98 ** visits[kind]) for kind in worth}

    def score(weights, mix):
        return sum((weights[kind] * mix[kind]).sum() for kind in mix)

    def tau(mixes):
        return kendall([score(worth, mix) for mix in mixes], [score(learnt, mix) for mix in mixes])

    assert tau(trained) == pytest.approx(tau(ranked), abs=0.05)
    assert tau(ranked) > 0.8


def test_the_best_of_a_planted_space_is_found_and_only_finalists_are_evaluated_on_all():
    space = SMALL
    target = dnas.one_hot_mix(space, dnas.random_genotype(jax.random.key(3), space))
    calls = {"quick": 0, "all": 0}

    def accuracy(mix, *, batches=None):
        calls["all" if batches is None else "quick"] += 1
        return float((target["normal"] * mix["normal"]).sum()) / 4

    rule = METHODS["random_ws"](space, steps_per_epoch=1, epochs=1, samples=600).rule
    mix = {
        kind: own.computes / own.computes.sum(1, keepdims=True)
        for kind, own in space.choices.items()
    }
    observed = dnas.Observed(space, 1, mix, mix, accuracy, None)
    verdict = rule.update(rule.init(space, 1), observed)[1]
    assert calls["all"] == 10 < calls["quick"] <= 600
    assert verdict.metrics["sample_accuracy"] == 1.0
    np.testing.assert_array_equal(verdict.mix["normal"], target["normal"])


@pytest.mark.slow
@pytest.mark.parametrize(("family", "channels"), [("chain", 8), ("recurrent", 4)])
def test_chains_and_recurrent_cells_are_searched_too(family, channels):
    space, task = TINY[family], task_of(family)
    sizes = dict(channels=channels, num_cells=2 if family == "chain" else 1, batch_size=4)
    method = METHODS["random_ws"].for_task(space, task, epochs=1, samples=3, **sizes)
    result = dnas.run_search(space, task, method, hooks=dnas.QUIET)
    dnas.check_genotype(space, result.genotype)
    assert 0 <= result.history[-1]["sample_accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("space", [SMALL, SMALL_201], ids=["darts", "nasbench201"])
def test_a_search_leaves_arch_alone_and_reads_the_best_sample(space):
    result = small_search("random_ws", space, samples=5, finalists=2, batches=1)
    assert all((rows["ops"] == 0).all() for rows in result.state.arch.values())
    assert 0 <= result.history[-1]["sample_accuracy"] <= 1


@pytest.mark.parametrize("ops", [("max_pool_3x3", "sep_conv_3x3"), ("none", "sep_conv_3x3")])
def test_a_sampled_supernet_runs_a_genotype_as_its_network_does(ops):
    """Also where an edge has no op: its row is zero, and the first op is not run for it."""
    space = dnas.darts_space(name="pairs", ops=ops, num_nodes=2)
    sizes = dict(channels=2, num_cells=2, num_classes=3)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    mixed, sampled = space.supernet(**sizes), space.supernet(**sizes, sampled=True)
    variables = mixed.init(jax.random.key(1), images)
    mix = dnas.one_hot_mix(space, dnas.random_genotype(jax.random.key(2), space))
    one, other = (model.apply(variables, mix, images)[0].logits for model in (mixed, sampled))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
