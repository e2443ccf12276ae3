"""The feasible method: its linear program against scipy's, and every iterate within the bound."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_expected import SPACES, chain_space, random_mix, random_table, sizes_of

from dnas.hw_loss import expected_cost, feasible_range, feasible_start, frank_wolfe
from dnas.hw_loss.frank_wolfe import best_corner

CORNER = jax.jit(best_corner)


def by_scipy(gradient, slopes, limit, allowed):
    scipy = pytest.importorskip("scipy.optimize")
    rows, ops = gradient.shape
    simplexes = np.kron(np.eye(rows), np.ones(ops))
    bounds = [(0, 1 if may else 0) for may in allowed.ravel()]
    found = scipy.linprog(
        gradient.ravel(), slopes.ravel()[None], [limit], simplexes, np.ones(rows), bounds
    )
    return found.fun if found.success else None


@pytest.mark.parametrize("ties", [False, True])
def test_the_linear_program_is_solved_as_well_as_by_scipy_with_one_row_divided_at_most(ties):
    random = np.random.default_rng(0)
    solved = 0
    for _ in range(30):
        rows, ops = 6, 4
        allowed = random.random((rows, ops)) < 0.8
        allowed[:, 0] = True
        gradient, slopes = random.normal(size=(rows, ops)), random.gamma(2, size=(rows, ops))
        if ties:  # equal layers, as stages have, change over at the same multiplier
            gradient[1:3], slopes[1:3], allowed[1:3] = gradient[0], slopes[0], allowed[0]
        limit = rows * random.uniform(0.5, 2.5)
        best = by_scipy(gradient, slopes, limit, allowed)
        found = np.asarray(CORNER(gradient, slopes, limit, allowed), float)
        assert np.all(found >= 0) and np.all(found[~allowed] == 0)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
        assert (found > 1e-5).sum() <= rows + 1
        if best is None:
            np.testing.assert_array_equal(
                found.argmax(axis=-1), np.where(allowed, slopes, np.inf).argmin(axis=-1)
            )
            continue
        solved += 1
        assert (slopes * found).sum() <= limit * (1 + 1e-6)
        assert (gradient * found).sum() == pytest.approx(best, abs=1e-4)
    assert 10 < solved


def test_without_a_limit_that_binds_every_row_takes_its_best_op():
    random = np.random.default_rng(1)
    gradient, slopes = random.normal(size=(2, 5, 3))
    found = CORNER(jnp.asarray(gradient), jnp.asarray(slopes), 1e6, np.ones((5, 3), bool))
    assert np.array_equal(found, np.eye(3)[gradient.argmin(axis=-1)])


def mix_of(arch):
    return {kind: rows["ops"] for kind, rows in arch.items()}


def arch_of(mix):
    return {kind: {"ops": jnp.asarray(rows, jnp.float32)} for kind, rows in mix.items()}


def bounded(name, share):
    space = SPACES[name]
    layers = space.parts(**sizes_of(name))
    cost = expected_cost(random_table(layers), layers, metric="latency")
    ends = feasible_range(cost)
    return space, cost, ends.least + share * (ends.largest - ends.least)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("name", SPACES)
def test_the_start_is_on_simplexes_and_within_the_bound(name, share):
    space, cost, bound = bounded(name, share)
    start = mix_of(feasible_start(cost, bound))
    assert cost(start) <= bound * (1 + 1e-6)
    for kind, spec in space.cells.items():
        sums = start[kind].sum(axis=-1)
        drops = spec.keep is not None and not spec.choices.nothing
        assert np.all((np.abs(sums - 1) < 1e-5) | ((sums < 1 + 1e-5) & drops))
        assert not np.any(np.asarray(start[kind])[~spec.choices.allowed])


@pytest.mark.parametrize(
    ("name", "share"),
    [("chain", 0.05), ("chain", 0.4), ("cells", 0.1), ("darts_without_none", 0.2)],
)
def test_every_iterate_meets_the_bound(name, share):
    space, cost, bound = bounded(name, share)
    optimizer, arch = frank_wolfe(jax.random.key(0), cost, bound), feasible_start(cost, bound)
    wanted = jax.tree.map(jnp.asarray, random_mix(space, seed=3, scale=3.0))

    @jax.jit
    def step(arch, state):
        gradient = jax.grad(
            lambda arch: sum(((arch[kind]["ops"] - wanted[kind]) ** 2).sum() for kind in arch)
        )(arch)
        updates, state = optimizer.update(gradient, state, arch)
        return optax.apply_updates(arch, updates), state

    state, costs = optimizer.init(arch), []
    first = arch
    for _ in range(60):
        arch, state = step(arch, state)
        costs.append(float(cost(mix_of(arch))))
        for kind, rows in mix_of(arch).items():
            assert np.all(np.asarray(rows) >= -1e-6) and not np.any(
                np.asarray(rows)[~space.cells[kind].choices.allowed]
            )
            assert np.all(np.asarray(rows.sum(axis=-1)) <= 1 + 1e-5)
    assert max(costs) <= bound * (1 + 1e-6)
    distance = [
        sum(float(((own[kind]["ops"] - wanted[kind]) ** 2).sum()) for kind in wanted)
        for own in (first, arch)
    ]
    assert distance[1] < distance[0]


def test_it_reaches_the_solution_of_a_linear_loss():
    space, cost, bound = bounded("chain", 0.4)
    gradient = {"layers": jnp.asarray(-(cost.if_run["layers"] ** 0.5), jnp.float32)}
    optimizer, arch = frank_wolfe(jax.random.key(0), cost, bound), feasible_start(cost, bound)
    state, update = optimizer.init(arch), jax.jit(optimizer.update)
    for _ in range(200):
        updates, state = update(arch_of(gradient), state, arch)
        arch = optax.apply_updates(arch, updates)
    spec = space.cells["layers"]
    best = by_scipy(
        np.asarray(gradient["layers"], float),
        cost.if_run["layers"],
        bound - cost.fixed,
        spec.choices.allowed,
    )
    assert float((gradient["layers"] * arch["layers"]["ops"]).sum()) == pytest.approx(
        best, rel=1e-2
    )


@pytest.mark.parametrize(("start", "share"), [(0, 1.0), (2, 0.5), (6, 0.25)])
def test_the_first_step_goes_the_share_of_the_paper_towards_the_corner(start, share):
    _, cost, bound = bounded("chain", 1.0)  # a bound that does not bind
    optimizer = frank_wolfe(jax.random.key(0), cost, bound, start=start)
    arch = feasible_start(cost, bound)
    gradient = arch_of({"layers": np.arange(12.0).reshape(4, 3)})
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(arch), arch)
    corner = jax.nn.one_hot(jnp.zeros(4, int), 3)
    np.testing.assert_allclose(
        updates["layers"]["ops"], share * (corner - arch["layers"]["ops"]), atol=1e-6
    )


def test_a_bound_below_the_cheapest_network_is_refused_before_any_work():
    space = chain_space()
    layers = space.parts()
    cost = expected_cost(random_table(layers), layers, metric="latency")
    least = feasible_range(cost).least
    for make in (
        lambda: frank_wolfe(jax.random.key(0), cost, 0.99 * least),
        lambda: feasible_start(cost, 0.99 * least),
    ):
        with pytest.raises(ValueError, match=f"it ranges from {least:g} to"):
            make()
    with pytest.raises(ValueError, match=r"call update\(gradients, state, params\)"):
        frank_wolfe(jax.random.key(0), cost, 2 * least).update({}, None)
