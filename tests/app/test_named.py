"""A line in a dict of the library is all that a name on the command line needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commanded import commanded

import dnas
from dnas import hw_loss
from dnas.app import datasets, hardware, named
from dnas.app.config import SearchConfig, parse
from dnas.app.search import main


def wait(epochs: int = 3, *, rate: float = 0.5, loud: bool = False, how: str = "long", seed=0):
    return epochs, rate, loud, how, seed


KNOWN = {"wait": wait, "plain": lambda: "plain"}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("wait", (3, 0.5, False, "long", 0)),
        ("wait:", (3, 0.5, False, "long", 0)),
        ("wait:epochs=4,rate=1", (4, 1, False, "long", 0)),
        ("wait:rate=1e-3, loud=true, how=short", (3, 1e-3, True, "short", 0)),
        ("plain", "plain"),
    ],
)
def test_keywords_follow_the_name(text, made):
    assert named.make(KNOWN, "rule", text) == made


def test_keywords_of_the_text_go_before_settings_and_settings_before_what_is_offered():
    settings, offered = {"epochs": 7, "rate": None}, {"epochs": 8, "seed": 9, "bound": 1.0}
    made = named.make(KNOWN, "rule", "wait", settings, offered)
    assert made == (7, 0.5, False, "long", 9)
    assert named.make(KNOWN, "rule", "wait:epochs=4,seed=1", settings, offered)[::4] == (4, 1)


WRONG = {
    "unknown": (
        "weit",
        {},
        r"rule 'weit' is not known \(did you mean 'wait'\?\); choose from: wait, plain",
    ),
    "keyword": ("wait:epoch=3", {}, "does not take epoch;.*takes: epochs, rate, loud, how, seed"),
    "setting": ("plain", {"epochs": 3}, "rule 'plain' does not take epochs;.*nothing"),
    "no number": ("wait:epochs=some", {}, "epochs of rule 'wait' is a whole number, got 'some'"),
    "half a number": ("wait:epochs=1.5", {}, "is a whole number, got 1.5"),
    "no whole number": ("wait:epochs=true", {}, "is a whole number, got True"),
    "neither": ("wait:loud=2", {}, "loud of rule 'wait' is True or False, got 2"),
    "no value": ("wait:epochs", {}, "without a value, 'epochs'"),
    "twice": ("wait:epochs=3,epochs=4", {}, "has the keyword 'epochs' twice"),
    "no literal": ("wait:epochs={[]:1}", {}, r"is a whole number, got '\{\[\]:1\}'"),
    "a deep literal": ("wait:epochs=" + "[" * 9000, {}, "is a whole number, got '"),
    "signs": ("wait:epochs=" + "-" * 9000 + "1", {}, "is a whole number, got '"),
    "digits": ("wait:epochs=" + "1" * 9000, {}, "is a whole number, got '"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_factory_does_not_take_is_refused_by_name(name):
    text, settings, reason = WRONG[name]
    with pytest.raises(ValueError, match=reason):
        named.make(KNOWN, "rule", text, settings)


def uniform(space):
    return {kind: jnp.ones((len(spec.edges), len(spec.ops))) for kind, spec in space.cells.items()}


def test_a_rule_of_a_user_is_found_by_its_name(monkeypatch):
    def patient(*, epochs: int = 2, seed: int = 0) -> dnas.Rule:
        return dnas.Rule(lambda space, total: (epochs, seed), lambda state, observed: (state, None))

    monkeypatch.setitem(dnas.RULES, "patient", patient)
    rule = commanded("--rule=patient:epochs=5", "--seed=3").rule
    assert rule.init(dnas.SPACES["darts"], 20) == (5, 3)
    with pytest.raises(ValueError, match="'patient' does not take interval.*epochs, seed"):
        commanded("--rule=patient", "--interval=3")


@pytest.mark.parametrize("known", ["softmax", "simplex"])
def test_a_relaxation_of_a_user_without_options_is_found_by_its_name(known, monkeypatch):
    made = dnas.RELAXATIONS[known]()
    monkeypatch.setitem(dnas.RELAXATIONS, "mine", lambda: made)
    simplex = ["--arch-optimizer=exponentiated_gradient"] * (known == "simplex")
    assert commanded("--relax=mine", *simplex).relaxation is made
    with pytest.raises(ValueError, match="'mine' does not take init_scale"):
        commanded("--relax=mine", "--arch-init-scale=0.1", *simplex)


def test_a_relaxation_of_a_user_is_sampled_if_its_draws_are_one_hot(monkeypatch):
    def first_or_last() -> dnas.Relaxation:
        def sample(key, arch, choices, step):
            rows, options = choices.shape
            last = jax.random.bernoulli(key, shape=(rows,))
            return jax.nn.one_hot(jnp.where(last, options - 1, 0), options)

        return dnas.softmax()._replace(sample=sample)

    monkeypatch.setitem(dnas.RELAXATIONS, "mine", first_or_last)
    assert commanded("--relax=mine", "--sampled=1").options["sampled"]
    monkeypatch.setitem(dnas.RELAXATIONS, "mine", lambda: dnas.softmax())
    with pytest.raises(ValueError, match="one-hot draws.*not mine"):
        commanded("--relax=mine", "--sampled=1")


def test_a_selection_of_a_user_is_found_by_its_name(monkeypatch):
    monkeypatch.setitem(dnas.SELECTIONS, "mine", lambda *, k: dnas.top_edges(k))
    select = commanded("--select=mine:k=1").select
    space = dnas.SPACES["darts"]
    assert len(select(space, uniform(space)).cells["normal"]) == 4


def test_an_arch_optimiser_of_a_user_is_found_by_its_name(monkeypatch):
    told = []

    def signs(learning_rate: float, *, b1: float = 0.25) -> optax.GradientTransformation:
        told.append((learning_rate, b1))
        return optax.sign_sgd(learning_rate)

    monkeypatch.setitem(dnas.ARCH_OPTIMIZERS, "signs", signs)
    commanded("--arch-optimizer=signs", "--arch-learning-rate=0.5")
    commanded("--arch-optimizer=signs:b1=0.75", "--arch-learning-rate=0.5")
    assert told == [(0.5, 0.5), (0.5, 0.75)]  # b1 as the method has it


def test_binary_gates_keep_the_mass_of_a_pair_whoever_names_them():
    made = commanded("--relax=binary_gates:paths=two", "--epochs=1")
    arch = {"normal": {"ops": jnp.zeros((2, 3))}}
    gradient = {"normal": {"ops": jnp.array([[1.0, -2.0, 0.0], [0.0, 3.0, 0.5]])}}
    optimizer = made.optimizer(1, 1)
    weights = {"w": jnp.zeros(2)}

    def inner(weights, arch):
        return 0.0 * weights["w"].sum(), {}

    def outer(weights, arch):
        return (arch["normal"]["ops"] * gradient["normal"]["ops"]).sum(), {}

    state = optimizer.init(weights, arch)
    _, updates, _, _ = optimizer.update(inner, outer, state, weights, arch)
    moved = optax.apply_updates(arch, updates)["normal"]["ops"]
    pairs = gradient["normal"]["ops"] != 0
    mass = (jnp.exp(moved) * pairs).sum(-1)
    np.testing.assert_allclose(mass, pairs.sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(moved)[~np.asarray(pairs)], 0)


SIZES = dict(channels=4, num_cells=3, num_classes=10, image_size=8)


def twice(target: float, *, power: float = 1.0):
    """A penalty or a factor: (2 C / T)^power."""
    return lambda cost: (2 * cost / target) ** power


@pytest.mark.parametrize(
    ("known", "part"),
    [(hw_loss.PENALTIES, "arch_losses"), (hw_loss.FACTORS, "arch_factors")],
    ids=["penalty", "factor"],
)
def test_a_penalty_of_a_user_is_found_by_its_name(known, part, monkeypatch):
    monkeypatch.setitem(known, "twice", twice)
    flags = ["--space=nasbench201", "--penalty=twice:power=2", "--target=1Mmacs"]
    config, space = parse(SearchConfig, flags), dnas.SPACES["nasbench201"]
    limits = hardware.limits_of(config, space, SIZES)
    (made,) = getattr(commanded(*flags, limits=limits), part)
    weight, term = made if part == "arch_losses" else (1.0, made)
    mix = uniform(space)
    expected = (2 * limits[0].cost(mix) / 1e6) ** 2
    assert weight == 1.0 and float(term({}, mix)) == pytest.approx(float(expected))


def test_a_multiplier_of_a_user_is_found_by_its_name(monkeypatch):
    told = []

    def slow(target, *, rate: float, equality: bool):
        told.append((target, rate, equality))
        return hw_loss.lagrangian(target, rate=rate)

    monkeypatch.setitem(hw_loss.MULTIPLIERS, "slow", slow)
    flags = ["--space=nasbench201", "--penalty=slow", "--penalty-weight=0.5", "--target=1Mmacs"]
    config, space = parse(SearchConfig, flags), dnas.SPACES["nasbench201"]
    limits = hardware.limits_of(config, space, SIZES)
    assert commanded(*flags, limits=limits).constraint.costs == (limits[0].cost,)
    assert told == [([1e6], 0.5, False)]


def test_a_penalty_that_is_not_known_is_refused_even_without_a_target():
    with pytest.raises(ValueError, match="penalty 'hings' is not known.*lightnas.*hinge"):
        commanded("--penalty=hings")


@pytest.mark.parametrize(
    ("rule", "keyword", "published"),
    [
        ("eigenvalue", "from_epoch", 11),
        ("greedy", "warm_up", 9),
        ("greedy", "interval", 5),
        ("ranking", "patience", 10),
        ("skip_count", "from_epoch", 10),
    ],
)
def test_epochs_of_published_rules_are_parts_of_the_search(rule, keyword, published, monkeypatch):
    published_rule = dnas.RULES[rule]
    told = {}

    @functools.wraps(published_rule)
    def noted(**keywords):
        told.update(keywords)
        return published_rule(**keywords)

    monkeypatch.setitem(dnas.RULES, rule, noted)
    for epochs in (50, 20, 1):
        commanded(f"--rule={rule}", f"--epochs={epochs}")
        assert told[keyword] == max(round(published * epochs / 50), 1)
    commanded(f"--rule={rule}:{keyword}=3")
    assert told[keyword] == 3


@pytest.mark.parametrize(
    "flags",
    [["--rule=perturbation"], ["--rule=perturbation", "--interval=2"]],
    ids=" ".join,
)
def test_the_last_event_of_the_rule_perturbation_falls_on_the_last_epoch(flags):
    rule, space = commanded(*flags, "--epochs=200").rule, dnas.SPACES["darts"]
    rule.init(space, 200)
    with pytest.raises(ValueError, match="needs 200 epochs"):
        rule.init(space, 199)


def noise(data_dir):
    del data_dir
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    labels = np.arange(60, dtype=np.int32) % 3
    parts = images[:40], labels[:40], images[40:], labels[40:]
    return datasets.Dataset("noise", *parts, ("a", "b", "c"))


def stop_after(*, epochs: int = 1) -> dnas.Rule:
    def update(state, observed):
        return state, dnas.Verdict(stop=observed.epoch >= epochs)

    return dnas.Rule(lambda space, total: np.asarray(total), update)


@pytest.fixture
def of_a_user(monkeypatch):
    """One of everything that has a name, added in its one place."""
    space = dnas.darts_space(name="mine", ops=("none", "skip_connect", "max_pool_3x3"), num_nodes=1)

    @dnas.methods.published(
        "a paper",
        "https://example.org",
        settings={"darts": {"epochs": 3, "strength": 1.0}},
        space="mine",
    )
    def mine(space, training, *, strength):
        loss = (strength, dnas.arch_losses.l2())
        return dnas.Method(arch_losses=[loss], rule=stop_after(), select=dnas.top_edges(1))

    monkeypatch.setitem(dnas.SPACES, "mine", space)
    monkeypatch.setitem(dnas.RELAXATIONS, "mine", lambda: dnas.softmax())
    monkeypatch.setitem(dnas.RULES, "mine", stop_after)
    monkeypatch.setitem(dnas.SELECTIONS, "mine", lambda: dnas.top_edges(1))
    monkeypatch.setitem(datasets.DATASETS, "mine", noise)
    monkeypatch.setitem(dnas.METHODS, "mine", mine)


@pytest.mark.usefixtures("of_a_user")
def test_a_method_of_a_user_has_settings_of_its_own_on_the_command_line():
    config = parse(SearchConfig, ["--dataset=mine", "--method=mine"])
    assert (config.space, config.epochs, config.channels) == ("mine", 3, 16)
    (loss,) = commanded("--method=mine:strength=2.5").arch_losses
    assert loss[0] == 2.5
    with pytest.raises(ValueError, match="'mine' has no setting 'strenght'.*'strength'"):
        commanded("--method=mine:strenght=2.5")


@pytest.mark.usefixtures("of_a_user")
def test_the_parts_of_a_user_take_the_places_of_those_of_a_method():
    made = commanded("--space=mine", "--relax=mine", "--rule=mine:epochs=1", "--select=mine")
    assert made.rule is not None and made.select is not None


@pytest.mark.slow
@pytest.mark.usefixtures("of_a_user")
def test_a_command_runs_what_a_user_has_added_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr("dnas.app.command.set_up_process", lambda: None)
    small = (
        "--channels=2 --cells=1 --epochs=3 --batch-size=8 --auxiliary=0 --retrain-channels=2"
        " --retrain-cells=1 --retrain-epochs=1 --retrain-batch-size=8 --random-cells=1"
    )
    names = ["--dataset=mine", "--method=mine", f"--runs={tmp_path}", "--name=run"]
    main([*names, *small.split()])
    genotype = dnas.Genotype.from_json((tmp_path / "run" / "genotype.json").read_text())
    assert genotype.space == "mine" and len(genotype.cells["normal"]) == 1
    assert (tmp_path / "run" / "report.html").is_file()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum('"valid_loss"' in row for row in rows) == 1  # the rule has ended the search
