"""Churn as rounds: one coin per user and round, from streams of their own."""

from pathlib import Path

import numpy as np
import pytest

import runs
from edge_server.plan import UserPlan
from sim.planning import blueprint
from sim.presence import away
from sim.recipe import from_recipe, to_recipe
from sim.scenario import Scenario
from sim.step import Step


def scenario(tmp_path: Path, churn: list[float | None], rounds: int = 400, seed: int = 3) -> Scenario:
    tree = runs.kernel(rounds=rounds, seed=seed)
    template = tree["users"]["template"]
    presence = ["always" if p is None else {"churn": p} for p in churn]
    tree["users"] = [{**template, "name": f"u{k}", "presence": p} for k, p in enumerate(presence)]
    return runs.loaded(tmp_path, tree).scenario


def test_users_toss_their_own_coins(tmp_path: Path) -> None:
    found = away(scenario(tmp_path, [0.3, None, 0.7, 0.3]))
    assert found[1] == ()
    for rounds, p in zip((found[0], found[2], found[3]), (0.3, 0.7, 0.3), strict=True):
        assert len(rounds) == pytest.approx(399 * p, abs=4 * np.sqrt(399 * p * (1 - p)))
        assert 0 not in rounds
    assert found[0] != found[3]
    assert found != away(scenario(tmp_path, [0.3, None, 0.7, 0.3], seed=4))


def test_another_user_or_round_changes_nobody_elses_coins(tmp_path: Path) -> None:
    alone, more = away(scenario(tmp_path, [None, 0.5])), away(scenario(tmp_path, [None, 0.5, 0.5], rounds=500))
    assert alone[1] == tuple(t for t in more[1] if t < 400)


def test_somebody_is_always_there_the_first_if_need_be(tmp_path: Path) -> None:
    found = [{*rounds} for rounds in away(scenario(tmp_path, [0.9, 0.9, 0.9]))]
    assert not set.intersection(*found)
    both_away = found[1] & found[2]
    assert both_away
    assert not both_away & found[0]


def test_every_process_knows_who_is_away(tmp_path: Path) -> None:
    design = blueprint(scenario(tmp_path, [0.5, 0.5], rounds=9), "run")
    again, _ = from_recipe(to_recipe(design, Step(0.1)))
    assert again.plan == design.plan
    rounds = [again.plan.present(t) for t in range(9)]
    assert [tuple(t for t in range(9) if not rounds[t][k]) for k in range(2)] == away(design.scenario)


def test_nobody_is_away_when_everybody_joins(tmp_path: Path) -> None:
    user = blueprint(scenario(tmp_path, [None]), "run").plan.users[0]
    with pytest.raises(ValueError, match="user 'u0' is away in round 0"):
        UserPlan(**{**user.__dict__, "away": (3, 0)})
