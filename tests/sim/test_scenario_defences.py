"""What privacy, attacks and robust rules do not go with, and what a report says of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import runs
from sim.cli import app
from sim.report import build as report
from sim.scenario import ScenarioErrors

FALSE = {"kind": "gradient", "attack": "random"}
CLIP = {"kind": "norm_clip", "at": 1.0}


def theory(step: str = "theory") -> runs.Tree:
    return runs.changed(runs.kernel(many=2), edge__primal__step=step, edge__meta__target="oracle")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"users__template__privacy": {"clip": 1.0}}, "users.template.privacy: step: theory knows nothing of blurred"),
        ({"users__template__adversary": FALSE}, "users.template.adversary: step: theory knows nothing of false"),
        ({"users__template__adversary": [FALSE]}, "users.template.adversary: step: theory knows nothing of false"),
        ({"edge__robust": CLIP}, "edge.robust: step: theory is for the weighted sum of gradients"),
        ({"edge__robust": {"kind": "multi_krum", "byzantine": 1}}, "edge.robust.byzantine: 1 needs at least 5 users"),
        ({"edge__robust": {"kind": "krum"}}, "edge.robust.kind: unknown kind 'krum'"),
        ({"edge__robust": {"kind": "trimmed_mean", "share": 0.5}}, "edge.robust.share: must be below 0.5, got 0.5"),
        ({"edge__quarantine": {"strikes": 0}}, "edge.quarantine.strikes: must be at least 1, got 0"),
        ({"edge__max_norm": 0.0}, "edge.max_norm: must be above 0, got 0.0"),
        ({"users__template__privacy": {"noise": 1.0}}, "users.template.privacy.clip: is missing"),
        (
            {"users__template__adversary": {"kind": "gradient", "attack": "scale"}},
            "users.template.adversary: attack scale with factor 1 is the honest gradient; give another factor",
        ),
    ],
)
def test_refusals(tmp_path: Path, changes: runs.Tree, expected: str) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        runs.loaded(tmp_path, runs.changed(theory(), **changes))
    assert any(f": {expected}" in error for error in caught.value.errors), caught.value.errors


def test_numbers_as_steps_go_with_all_of_them(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(many=5), users__template__privacy={"clip": 1.0}, users__template__adversary=FALSE)
    runs.loaded(tmp_path, runs.changed(tree, edge__robust={"kind": "multi_krum", "byzantine": 1}))


def test_a_robust_run_claims_no_theorem(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(many=3), edge__robust=CLIP, edge__meta__target="oracle")
    assert set(runs.rounds(runs.run(tmp_path, tree).folder)["bound"].astype(str)) == {"nan"}


def test_common_tasks_are_for_bundled_digits(tmp_path: Path) -> None:
    tree = runs.digits(many=2)
    for user in tree["users"]:
        user["task"] |= {"digits": "mnist", "tasks": "common"}
    file = runs.write(tmp_path, tree)
    result = CliRunner().invoke(app, ["validate", str(file)])
    assert result.exit_code == 2
    assert "tasks: common is for bundled digits" in result.output


def test_a_report_says_what_leaked_and_which_rule_was_on(tmp_path: Path) -> None:
    tree = runs.changed(runs.digits(many=2, batch=8), edge__robust=CLIP, record={"privacy": True})
    page = report.build([runs.run(tmp_path, tree).folder]).html.read_text(encoding="utf-8")
    for words in ("robust rule", "norm_clip, at 1", "label leak by gradient direction, AUC", "distance correlation"):
        assert words in page, words
    plain = runs.run(tmp_path / "plain", runs.kernel()).folder
    page = report.build([plain]).html.read_text(encoding="utf-8")
    assert "label leak" not in page
    assert "robust rule" not in page
