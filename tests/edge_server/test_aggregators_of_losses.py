import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_server import config
from edge_server.aggregators import Afl, Aggregator, QFfl, ScaleInvariant, Slot, State, build_aggregator
from edge_server.aggregators.afl import project_simplex
from edge_server.fairness import AlphaFair

FAIR = AlphaFair(1.0, 1.0, 4.0)
NAN = math.nan
RULES = [ScaleInvariant(FAIR), QFfl(FAIR, 2.0), Afl(FAIR, 0.5)]


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slot(*losses: float) -> Slot:
    return Slot.of(tensor(*losses), l_max=4.0)


def first(rule: Aggregator, *losses: float) -> list[float]:
    return (-rule.weights(rule.begin_round(rule.start(len(losses))), slot(*losses))).tolist()


def test_scale_invariant_in_closed_form() -> None:
    assert first(ScaleInvariant(FAIR), 0.5, 2.0) == [1.0, 0.25]


def test_scale_invariant_is_blind_to_the_unit_of_a_loss() -> None:
    theta = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    for unit in (1.0, 1000.0):
        loss = unit * theta**2
        (slope,) = torch.autograd.grad(loss, theta)
        assert first(ScaleInvariant(FAIR), loss.item())[0] * slope.item() == pytest.approx(2 / 1.5)


def test_scale_invariant_refuses_a_loss_of_zero() -> None:
    with pytest.raises(ValueError, match="losses above 0, and user 1's is 0"):
        first(ScaleInvariant(FAIR), 1.0, 0.0, NAN)


def test_q_ffl_in_closed_form() -> None:
    assert first(QFfl(FAIR, 2.0), 3.0, 0.5) == pytest.approx([9 / 2, 0.25 / 2])
    assert first(QFfl(FAIR, 0.0), 3.0, 0.0) == [0.5, 0.5]
    assert first(QFfl(FAIR, 1.0), 0.0, 0.0) == [0.0, 0.0]


def test_q_ffl_is_the_gradient_of_its_objective() -> None:
    losses = tensor(0.3, 1.7, 2.2).requires_grad_()
    (losses.pow(2.5 + 1) / (2.5 + 1)).mean().backward()
    assert first(QFfl(FAIR, 2.5), 0.3, 1.7, 2.2) == pytest.approx(losses.grad.tolist())


def test_q_ffl_refuses_a_negative_loss() -> None:
    with pytest.raises(ValueError, match=r"at least 0, and user 2's is -0.5"):
        first(QFfl(FAIR, 1.0), 1.0, NAN, -0.5)


def test_afl_in_closed_form() -> None:
    rule = Afl(FAIR, 0.1)
    state = rule.step(rule.start(2), slot(1.0, 3.0))
    assert (-state.w).tolist() == pytest.approx([0.4, 0.6])
    assert (-rule.step(state, slot(1.0, 30.0)).w).tolist() == [0.0, 1.0]


def test_afl_ends_at_the_worst_user_and_carries_it_over_rounds() -> None:
    rule = Afl(FAIR, 0.1)
    state = rule.start(3)
    for _ in range(200):
        state = rule.begin_round(rule.step(state, slot(1.0, 1.2, 1.1)))
    assert (-state.w).tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert state.rounds == 200


def test_afl_holds_the_share_of_the_absent() -> None:
    rule = Afl(FAIR, 0.1)
    state = rule.step(rule.start(4), slot(NAN, 1.0, 3.0, NAN))
    assert (-state.w).tolist() == pytest.approx([0.25, 0.15, 0.35, 0.25])
    assert torch.equal(rule.step(state, slot(*[NAN] * 4)).w, state.w)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 3))
def test_the_projection_meets_its_optimality_conditions(point: list[float], total: float) -> None:
    start = tensor(*point)
    found = project_simplex(start, total)
    assert float(found.sum()) == pytest.approx(total, abs=1e-9)
    assert float(found.min()) >= 0
    pull = start - found
    assert bool((found * (pull.max() - pull) <= 1e-9).all())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_absent_users_hold_what_they_had(rule: Aggregator) -> None:
    state = rule.begin_round(rule.start(3))
    assert (-rule.weights(state, slot(NAN, NAN, NAN))).tolist() == pytest.approx([1 / 3] * 3)
    assert rule.weights(state, slot(0.7, NAN, 0.9))[1].item() == pytest.approx(-1 / 3)
    after = rule.step(state, slot(0.7, NAN, 0.9))
    assert after.w[1] == state.w[1]
    assert (after.slot, after.rounds) == (1, 1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_equal_losses_and_a_single_user(rule: Aggregator) -> None:
    assert len({*first(rule, 0.5, 0.5, 0.5)}) == 1
    single: State = rule.step(rule.start(1), slot(0.5))
    assert float(rule.weights(single, slot(0.5))) < 0


def test_a_step_leaves_the_old_state_alone() -> None:
    rule = Afl(FAIR, 0.1)
    state = rule.start(2)
    rule.step(state, slot(1.0, 3.0))
    assert state.w.tolist() == [-0.5, -0.5]


def test_a_scenario_line_makes_each() -> None:
    assert build_aggregator(config.ScaleInvariant(kind="scale_invariant", u_max=4.0)) == ScaleInvariant(FAIR)
    assert build_aggregator(config.QFfl(kind="q_ffl", u_max=4.0, q=0.5)) == QFfl(FAIR, 0.5)
    assert build_aggregator(config.Afl(kind="afl", u_max=4.0)) == Afl(FAIR, 0.1)
