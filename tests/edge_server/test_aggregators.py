import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_server import config
from edge_server.aggregators import Aggregator, ConstantWeights, OwoFmtl, Slot, State, build_aggregator
from edge_server.fairness import AlphaFair

FAIR = AlphaFair(1.0, 1.0, 4.0)
NAN = math.nan
slots_of_three = st.lists(st.lists(st.one_of(st.just(NAN), st.floats(-2, 6)), min_size=3, max_size=3), max_size=8)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slot(*utilities: float) -> Slot:
    return Slot.of(-tensor(*utilities), l_max=0.0)


def after(rule: Aggregator, *slots: tuple[float, ...], rounds: int = 1) -> State:
    state = rule.start(len(slots[0]))
    for _ in range(rounds):
        state = rule.begin_round(state)
        for utilities in slots:
            state = rule.step(state, slot(*utilities))
    return state


def held(rule: Aggregator, state: State) -> list[float]:
    return rule.weights(state, slot(*[NAN] * len(state.w))).tolist()


def test_a_round_starts_from_the_strongest_weight() -> None:
    rule = OwoFmtl(AlphaFair(2.0, 0.5, 4.0))
    assert rule.begin_round(rule.start(2)).w.tolist() == [-4.0, -4.0]
    assert rule.begin_round(after(rule, (4.0, 4.0))).w.tolist() == [-4.0, -4.0]


def test_follow_the_leader_in_closed_form() -> None:
    rule = OwoFmtl(FAIR, dual="follow_the_leader")
    assert after(rule, (1.0, 3.0), (3.0, 9.0)).w.tolist() == pytest.approx([-1 / 2, -1 / 4])


def test_follow_the_leader_averages_over_slots_present() -> None:
    rule = OwoFmtl(FAIR, dual="follow_the_leader")
    assert after(rule, (1.0, NAN), (NAN, NAN), (3.0, NAN)).w.tolist() == pytest.approx([-1 / 2, -1.0])


def test_ogd_holds_the_absent_and_still_counts_the_slot() -> None:
    rule = OwoFmtl(FAIR)
    late = after(rule, (NAN, NAN), (NAN, 1.2))
    assert late.w[0] == -1.0
    assert late.w[1].item() == pytest.approx(-1.0 + (1.2 - 1.0) / 2)


def test_round_index_divides_by_the_round() -> None:
    rule = OwoFmtl(FAIR, index="round")
    state = rule.begin_round(after(rule, (1.0,), rounds=3))
    assert rule.step(state, slot(1.4)).w.item() == pytest.approx(-1 + 0.4 / 4)
    by_slot = OwoFmtl(FAIR)
    assert by_slot.step(by_slot.begin_round(by_slot.start(1)), slot(1.4)).w.item() == pytest.approx(-1 + 0.4)


def test_horizon_run_carries_weights_means_and_index() -> None:
    ogd = OwoFmtl(FAIR, horizon="run")
    state = ogd.begin_round(after(ogd, (1.0,), (1.5,)))
    assert state.w.item() == pytest.approx(-1 + 0.5 / 2)
    assert ogd.step(state, slot(1.6)).w.item() == pytest.approx(-0.75 + (1.6 - 1 / 0.75) / 3)
    mean = OwoFmtl(FAIR, dual="follow_the_leader", horizon="run")
    assert after(mean, (1.0,), (2.0,), rounds=2).w.item() == pytest.approx(-1 / 1.5)


def test_horizon_slot_answers_the_same_slot() -> None:
    rule = OwoFmtl(FAIR, horizon="slot")
    state = rule.begin_round(rule.start(3))
    assert rule.weights(state, slot(2.0, 9.0, NAN)).tolist() == [-0.5, -0.25, -1.0]
    assert held(rule, rule.step(state, slot(2.0, 9.0, NAN))) == [-0.5, -0.25, -1.0]


@pytest.mark.parametrize("horizon", ["slot", "round", "run"])
@pytest.mark.parametrize("dual", ["ogd", "follow_the_leader"])
def test_alpha_zero_never_moves(horizon: str, dual: str) -> None:
    rule = build_aggregator(
        config.OwoFmtl.model_validate(
            {"kind": "owo_fmtl", "alpha": 0, "u_max": 4, "horizon": horizon, "dual": dual},
        )
    )
    assert after(rule, (0.1, 9.0), (2.0, NAN)).w.tolist() == [-1.0, -1.0]


def test_scaling_changes_what_is_applied_only() -> None:
    plain = after(OwoFmtl(FAIR), (1.2, 3.0))
    mean, unit = OwoFmtl(FAIR, scale="mean"), OwoFmtl(FAIR, scale=1.0)
    assert torch.equal(after(mean, (1.2, 3.0)).w, plain.w)
    assert held(mean, plain) == pytest.approx([plain.w.mean().item()] * 2)
    assert held(unit, plain) == pytest.approx((plain.w / -plain.w.sum()).tolist())
    assert sum(held(unit, plain)) == pytest.approx(-1.0)


@given(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]),
    st.sampled_from(["ogd", "follow_the_leader"]),
    st.sampled_from(["slot", "round", "run"]),
    slots_of_three,
)
def test_weights_stay_in_the_dual_box(alpha: float, dual: str, horizon: str, slots: list[list[float]]) -> None:
    fair = AlphaFair(alpha, 1.0, 4.0)
    rule = replace(OwoFmtl(fair), dual=dual, horizon=horizon)
    state = rule.begin_round(rule.start(3))
    for utilities in slots:
        w = rule.weights(state, slot(*utilities))
        assert bool(((w >= fair.strongest) & (w <= fair.weakest * (1 - 1e-12))).all())
        state = rule.step(state, slot(*utilities))
    assert (state.slot, state.rounds, state.w.dtype) == (len(slots), 1, torch.float64)


def test_a_step_leaves_the_old_state_alone() -> None:
    rule = OwoFmtl(FAIR, dual="follow_the_leader")
    state = rule.begin_round(rule.start(2))
    rule.step(state, slot(2.0, 3.0))
    assert (state.w.tolist(), state.utility_sum.tolist(), state.applied.tolist()) == ([-1, -1], [0, 0], [0, 0])


def test_constant_weights() -> None:
    rule = ConstantWeights(FAIR, (0.25, 2.0))
    assert held(rule, after(rule, (1.0, 3.0), (NAN, 2.0))) == [-0.25, -2.0]
    equal = build_aggregator(config.Constant(kind="constant", u_max=4.0))
    assert held(equal, equal.start(4)) == [-0.25] * 4


def test_constant_weights_must_match_the_users() -> None:
    rule = build_aggregator(config.Constant(kind="constant", u_max=4.0, weights=(0.5, 0.5)))
    with pytest.raises(ValueError, match="2 weights for 3 users"):
        rule.start(3)


def test_build_reads_the_scale() -> None:
    cfg = config.OwoFmtl(kind="owo_fmtl", alpha=2.0, u_max=4.0, scale=config.ScaleTo(sum=2.0))
    assert build_aggregator(cfg) == OwoFmtl(AlphaFair(2.0, 1.0, 4.0), scale=2.0)
