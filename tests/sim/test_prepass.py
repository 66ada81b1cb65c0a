"""The pre-pass over all rounds at once gives what a pass over messages gives."""

from pathlib import Path

import pytest

from sim.planning import blueprint
from sim.prepass import Prepass, fits
from sim.scenario import load
from sim.step import Step
from sim.theory import _largest_gradient

FIG2 = Path(__file__).parents[2] / "scenarios/owo_fmtl/fig2_alternate.yaml"


@pytest.mark.parametrize(
    "sets",
    [
        [],
        ["edge.aggregator.alpha=2"],
        ["edge.aggregator.dual=follow_the_leader"],
        ["edge.aggregator.horizon=slot"],
        ["edge.aggregator={kind: constant, weights: [0.2, 1.5]}"],
        ["edge.meta.rule=scratch"],
        ["edge.meta.rule={step: 0.5}"],
        ["users.*.task.batch=3"],
    ],
)
def test_as_over_messages(sets: list[str]) -> None:
    design = blueprint(load(FIG2, ["rounds=5", "slots=9", *sets]).scenario, "run")
    assert fits(design)
    for eta in (0.01, 0.3):
        slowly = _largest_gradient(design, Step(eta), lambda: False)
        assert Prepass(design, design.oracle).largest_gradient(eta) == pytest.approx(slowly, rel=1e-12)


@pytest.mark.parametrize(
    "sets",
    [
        ["edge.aggregator.horizon=run"],
        ["edge.aggregator.index=round"],
        ["edge.aggregator.scale=mean"],
        ["edge.meta.target=last"],
        ["users.sine.presence={churn: 0.5}"],
        ["users.sine.task.batch=2"],
        ["users.*.task.feedback={holdout: 3}"],
        ["users.sine.adversary={kind: inflation, factor: 3}"],
        ["edge.primal.cap=0.5"],
        ["edge.encoder.initial=default"],
    ],
)
def test_where_the_short_cut_would_differ_messages_decide(sets: list[str]) -> None:
    assert not fits(blueprint(load(FIG2, ["rounds=12", "slots=4", *sets]).scenario, "run"))
