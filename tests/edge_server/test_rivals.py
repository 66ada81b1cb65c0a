"""Every Gramian rule against its paper's equation: two users by hand, more by what the answer must obey."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchjd.aggregation import MGDAWeighting

from edge_server import config
from edge_server.aggregators import GramianRule, Slot, build_aggregator
from edge_server.aggregators.bargaining import Bargain
from edge_server.aggregators.simplex import best_mixture

KINDS = ("mgda", "pcgrad", "cagrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "upgrad")
AGREEMENT = ("nash_mtl", "fairgrad")
CONFLICT = [[1.0, 0.0], [-0.5, 1.0]]
ACCORD = [[2.0, 1.0, 0.0], [0.5, 1.0, -1.0]]
PAIRS = [CONFLICT, ACCORD, [[3.0, 0.0], [-2.0, 0.5]], [[1e-3, 2e-3], [5.0, -2.0]]]
two_users = pytest.mark.parametrize("rows", PAIRS)
every_kind = pytest.mark.parametrize("kind", KINDS)
Array = NDArray[np.float64]


def rule(kind: str, alpha: float = 1.0, seed: int = 3, **options: float) -> GramianRule:
    model = config.Cagrad if kind == "cagrad" else config.Gramian
    made = build_aggregator(model.model_validate({"kind": kind, "u_max": 4.0, "alpha": alpha, **options}), seed)
    assert isinstance(made, GramianRule)
    return made


def slot(rows: list[list[float] | None], scale: float = 1.0) -> Slot:
    """A slot with these gradients, one row per user, None for an absent one."""
    width = max(len(row) for row in rows if row is not None)
    jacobian = torch.tensor([row or [0.0] * width for row in rows], dtype=torch.float64)
    losses = torch.tensor([math.nan if row is None else 1.0 for row in rows], dtype=torch.float64)
    return Slot(losses, 4.0 - losses, lambda: scale * jacobian @ jacobian.T)


def weights(made: GramianRule, rows: list[list[float] | None], scale: float = 1.0) -> Array:
    """-w [K] in the first slot of the first round."""
    found: Array = -made.weights(made.begin_round(made.start(len(rows))), slot(rows, scale)).numpy()
    return found


def direction(kind: str, rows: list[list[float]], **options: float) -> Array:
    return weights(rule(kind, **options), rows) @ np.array(rows)


def crowd(users: int, width: int, seed: int) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(users, width)) * np.exp(rng.normal(size=(users, 1)))).tolist()


@two_users
def test_mgda_is_the_shortest_point_of_the_segment(rows: list[list[float]]) -> None:
    a, b = np.array(rows)
    share = np.clip(b @ (b - a) / ((a - b) @ (a - b)), 0, 1)
    assert weights(rule("mgda"), rows) == pytest.approx([share, 1 - share], abs=1e-5)


@two_users
def test_pcgrad_projects_each_gradient_off_the_other(rows: list[list[float]]) -> None:
    a, b = np.array(rows)
    clash = min(a @ b, 0.0)
    expected = (a - clash / (b @ b) * b) + (b - clash / (a @ a) * a)
    assert direction("pcgrad", rows) == pytest.approx(expected)


@two_users
def test_cagrad_serves_the_worst_off_user_best_in_its_ball(rows: list[list[float]]) -> None:
    gradients = np.array(rows)
    mean, found = gradients.mean(axis=0), direction("cagrad", rows, c=0.4)
    radius = 0.4 * np.linalg.norm(mean)
    assert np.linalg.norm(found - mean) == pytest.approx(radius)
    frame = np.linalg.svd(gradients)[2][:2]
    turns = np.linspace(0, 2 * np.pi, 20_001)
    rim = mean + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1) @ frame
    assert (gradients @ found).min() == pytest.approx((rim @ gradients.T).min(axis=1).max(), rel=1e-4)


@two_users
def test_nash_mtl_in_closed_form(rows: list[list[float]]) -> None:
    norms = np.linalg.norm(rows, axis=1)
    cosine = np.dot(*np.array(rows)) / norms.prod()
    assert weights(rule("nash_mtl"), rows) == pytest.approx(1 / (norms * math.sqrt(1 + cosine)))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fairgrad_in_closed_form_for_orthogonal_gradients(alpha: float) -> None:
    squared = np.array([4.0, 0.01])
    found = weights(rule("fairgrad", alpha=alpha), [[2.0, 0.0], [0.0, 0.1]])
    assert found == pytest.approx(squared ** (-alpha / (1 + alpha)))


def test_fairgrad_is_nash_at_one_and_the_plain_sum_at_zero() -> None:
    rows = crowd(5, 9, 0)
    assert weights(rule("fairgrad", alpha=1.0), rows).tolist() == weights(rule("nash_mtl", alpha=2.0), rows).tolist()
    assert weights(rule("fairgrad", alpha=0.0), rows).tolist() == [1.0] * 5


@two_users
def test_imtl_g_projects_equally_far_on_both_directions(rows: list[list[float]]) -> None:
    found = weights(rule("imtl_g"), rows)
    units = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    assert found.sum() == pytest.approx(1.0)
    assert np.ptp(units @ (found @ np.array(rows))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("cosine", [-0.6, 0.0, 0.6])
def test_aligned_mtl_in_closed_form_for_equal_norms(cosine: float) -> None:
    found = weights(rule("aligned_mtl"), [[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
    assert found == pytest.approx([math.sqrt((1 - abs(cosine)) / (1 + cosine)) / 2] * 2)


@two_users
def test_upgrad_projects_each_gradient_on_the_cone_that_harms_nobody(rows: list[list[float]]) -> None:
    a, b = np.array(rows)
    clash = min(a @ b, 0.0)
    expected = (a - clash / (b @ b) * b + b - clash / (a @ a) * a) / 2
    assert direction("upgrad", rows) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("users", "width"), [(8, 4), (8, 60), (32, 20), (32, 200)])
def test_mgda_with_many_users_leaves_nobody_worse_than_its_own_length(users: int, width: int) -> None:
    for seed in range(5):
        rows = np.array(crowd(users, width, seed))
        mixture = weights(rule("mgda"), rows.tolist())
        gains = rows @ (mixture @ rows)
        scale = (rows**2).sum() / users
        assert mixture.sum() == pytest.approx(1.0)
        assert mixture.min() >= 0
        assert gains.min() >= mixture @ gains - 1e-7 * scale


def test_mgda_agrees_with_the_frank_wolfe_of_torchjd() -> None:
    rows = crowd(6, 30, 1)
    theirs = MGDAWeighting(epsilon=1e-6, max_iters=3_000)(slot(rows).gramian()).numpy()
    assert weights(rule("mgda"), rows) == pytest.approx(theirs, abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.3, 0.5, 1.0, 1.5, 3.0, 10.0]))
def test_bargains_solve_their_equation(seed: int, users: int, alpha: float) -> None:
    gramian = slot(crowd(users, 2 * users, seed)).gramian().numpy()
    gramian /= gramian.diagonal().mean()
    made = rule("fairgrad", alpha=alpha)
    a = made.weighting(gramian, made.start(users))
    assert np.abs(gramian @ a * a ** (1 / alpha) - 1).max() <= 1e-6


@pytest.mark.parametrize(("users", "width"), [(8, 4), (8, 60), (24, 12)])
def test_cagrad_with_many_users_stays_in_its_ball_and_helps_the_worst_off(users: int, width: int) -> None:
    for seed in range(5):
        rows = np.array(crowd(users, width, seed))
        mean, found = rows.mean(axis=0), direction("cagrad", rows.tolist(), c=0.5)
        radius = 0.5 * np.linalg.norm(mean)
        assert np.linalg.norm(found - mean) <= radius * (1 + 1e-6)
        rng = np.random.default_rng(seed)
        for _ in range(200):
            offset = rng.normal(size=width) * 10 ** rng.uniform(-4, 0)
            other = found + offset - mean
            other = mean + other * min(1.0, radius / np.linalg.norm(other))
            assert (rows @ other).min() <= (rows @ found).min() + 1e-3 * radius


@every_kind
def test_absent_users_are_left_out_of_the_game(kind: str) -> None:
    made = rule(kind)
    state = made.begin_round(made.start(4))
    found = -made.weights(state, slot([CONFLICT[0], None, CONFLICT[1], None])).numpy()
    assert found[::2] == pytest.approx(weights(made, CONFLICT))
    assert found[1::2].tolist() == [0.25, 0.25]
    assert torch.equal(made.step(state, slot(CONFLICT)).w, state.w)


@every_kind
def test_nobody_there_asks_for_no_gradient(kind: str) -> None:
    made, nobody = rule(kind), torch.full((3,), math.nan, dtype=torch.float64)

    def never() -> Tensor:
        raise AssertionError

    assert made.weights(made.start(3), Slot(nobody, nobody, never)).tolist() == pytest.approx([-1 / 3] * 3)


@every_kind
def test_one_user_goes_along_its_gradient(kind: str) -> None:
    found = direction(kind, [[3.0, 4.0]])
    assert found @ [3, 4] == pytest.approx(5 * np.linalg.norm(found))
    assert found[0] > 0


@every_kind
def test_equal_gradients_get_equal_weights(kind: str) -> None:
    found = weights(rule(kind), [[1.0, 2.0]] * 3)
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)
    assert found[0] > 0


@every_kind
def test_gradients_of_zero_change_nothing(kind: str) -> None:
    assert weights(rule(kind), [[0.0, 0.0], [0.0, 0.0]]).tolist() == [0.5, 0.5]
    found = weights(rule(kind), [[1.0, 0.0], [0.0, 0.0]])
    assert np.isfinite(found).all()
    assert kind not in AGREEMENT or found.tolist() == [0.0, 0.0]


@every_kind
def test_opposite_gradients_leave_theta_where_it_is(kind: str) -> None:
    assert direction(kind, [[1.0, -2.0], [-1.0, 2.0]]) == pytest.approx([0.0, 0.0], abs=1e-9)


@every_kind
@pytest.mark.parametrize("scale", [1e-16, 1e12])
def test_the_unit_of_the_losses_does_not_matter_but_for_a_power(kind: str, scale: float) -> None:
    rows, alpha = crowd(4, 20, 2), 2.0
    power = {"nash_mtl": -1 / 2, "fairgrad": -alpha / (1 + alpha)}.get(kind, 0.0)
    made = rule(kind, alpha=alpha)
    assert weights(made, rows, scale) == pytest.approx(weights(made, rows) * scale**power, rel=1e-5)


def test_pcgrad_draws_its_order_from_its_own_seed_and_leaves_the_global_one_alone() -> None:
    rows = crowd(6, 3, 4)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = weights(rule("pcgrad", seed=1), rows)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert weights(rule("pcgrad", seed=1), rows).tolist() == first.tolist()
    assert weights(rule("pcgrad", seed=2), rows).tolist() != first.tolist()
    made = rule("pcgrad", seed=1)
    later = made.step(made.begin_round(made.start(6)), slot(rows))
    assert (-made.weights(later, slot(rows))).tolist() != first.tolist()


def test_a_bargain_that_is_not_reached_is_an_error_with_the_gradients_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.aggregators.bargaining._STEPS", 1)
    with pytest.raises(ValueError, match=r"no bargain after 1 Newton steps: .* 5 users; .*gradient norms \d.*e"):
        weights(rule("nash_mtl"), crowd(5, 9, 0))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_bargain_out_of_reach_of_float64_is_an_error() -> None:
    with pytest.raises(ValueError, match="no bargain"):
        Bargain(0.001)(np.diag([2.0, 1e-9]), rule("nash_mtl").start(2))


def test_a_mixture_that_is_not_optimal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.aggregators.simplex._solved", lambda curved, linear: np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="the duality gap is still"):
        best_mixture(np.diag([1.5, 0.5]), np.zeros(2))


def test_weights_that_are_not_finite_are_an_error() -> None:
    made = GramianRule(rule("mgda").fairness, lambda gramian, state: np.full(len(gramian), math.inf))
    with pytest.raises(ValueError, match=r"not finite; gradient norms 1.0e\+00 to 1.1e\+00"):
        weights(made, CONFLICT)


@pytest.mark.parametrize("kind", ["pcgrad", "imtl_g", "aligned_mtl", "upgrad"])
def test_without_torchjd_the_error_says_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edge_server.aggregators.from_torchjd", raising=False)
    monkeypatch.delattr("edge_server.aggregators.from_torchjd", raising=False)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(ValueError, match=rf"^{kind} needs TorchJD: pip install 'equiran\[rivals\]'$"):
        rule(kind)


def test_a_rule_looks_at_the_gramian_once() -> None:
    calls = []

    def counted() -> Tensor:
        calls.append(1)
        return slot(CONFLICT).gramian()

    for kind in KINDS:
        made, seen = rule(kind), Slot(torch.ones(2), torch.ones(2), counted)
        state = made.start(2)
        made.weights(state, seen)
        made.step(state, seen)
    assert len(calls) == len(KINDS)
