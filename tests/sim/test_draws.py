"""Who is drawn: S of those who are there, all alike, the same in every process."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runs
from edge_server.fairness import AlphaFair
from edge_server.participation import Draw
from edge_server.record import APPLIED, RoundRecord
from sim.estimate import estimate
from sim.planning import blueprint
from sim.recipe import from_recipe, to_recipe
from sim.scenario import ScenarioErrors
from sim.step import Step
from sim.summary import Summary

masks = st.lists(st.booleans(), min_size=1, max_size=60).map(np.array)


def partial(many: int, users: int, **changes: object) -> runs.Tree:
    return runs.kernel(many=many, participation={"users": users}, **changes)  # type: ignore[arg-type]


@given(masks, st.integers(1, 60), st.integers(0, 2**62), st.integers(0, 999))
def test_a_draw_is_s_of_those_who_are_there(there: np.ndarray, users: int, seed: int, t: int) -> None:
    before = there.copy()
    drawn = Draw(users, "round", seed).among(there, t)
    assert drawn.sum() == min(users, there.sum())
    assert not (drawn & ~there).any()
    np.testing.assert_array_equal(there, before)
    np.testing.assert_array_equal(Draw(users, "round", seed).among(there, t), drawn)


@given(masks, st.integers(1, 60), st.integers(0, 2**62))
def test_who_goes_makes_room_and_moves_nobody_else(there: np.ndarray, users: int, seed: int) -> None:
    draw = Draw(users, "round", seed)
    drawn = draw.among(there, 3)
    for k in np.flatnonzero(there):
        fewer = there.copy()
        fewer[k] = False
        assert not (drawn & fewer & ~draw.among(fewer, 3)).any()


def test_every_user_and_every_pair_is_as_likely_as_any_other() -> None:
    """Counts of 20,000 draws of 3 of 8 within five standard deviations."""
    draw, everybody, draws = Draw(3, "round", 11), np.ones(8, bool), 20_000
    found = np.stack([draw.among(everybody, t) for t in range(draws)]).astype(float)
    for counts, p in ((found.sum(axis=0), 3 / 8), ((found.T @ found)[np.triu_indices(8, 1)], 3 / 28)):
        assert np.abs(counts - draws * p).max() < 5 * np.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("keys", [[(0,), (1,), (2,)], [(0, 0), (0, 1), (1, 0), (1, 1)]], ids=["rounds", "slots"])
def test_draws_have_nothing_to_do_with_each_other(keys: list[tuple[int, ...]]) -> None:
    everybody = np.ones(60, bool)
    found = {Draw(20, "round", seed).among(everybody, *key).tobytes() for seed in (0, 1) for key in keys}
    assert len(found) == 2 * len(keys)


def test_more_users_than_there_are_is_an_error_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors) as error:
        runs.loaded(tmp_path, partial(4, 5))
    (line,) = error.value.errors
    file, number, said = line.split(":", 2)
    assert said == " participation.users: cannot draw 5 of 4 users"
    assert Path(file).read_text().splitlines()[int(number) - 1].strip() == "users: 5"


@pytest.mark.parametrize("users", [0, -1, 1.5, "some"])
def test_what_is_no_number_of_users(tmp_path: Path, users: object) -> None:
    with pytest.raises(ScenarioErrors, match=r"participation.users: (must be at least 1|expected a whole number)"):
        runs.loaded(tmp_path, runs.kernel(many=4, participation={"users": users}))


def test_every_process_draws_the_same(tmp_path: Path) -> None:
    design = blueprint(runs.loaded(tmp_path, partial(9, 4, rounds=6)).scenario, "run")
    again, _ = from_recipe(to_recipe(design, Step(0.1)))
    assert again.plan == design.plan
    rounds = np.array([again.plan.present(t) for t in range(6)])
    assert (rounds.sum(axis=1) == 4).all()
    assert len({row.tobytes() for row in rounds}) > 1


def test_estimates_are_those_of_the_users_who_take_part(tmp_path: Path) -> None:
    everybody, drawn = (
        estimate(runs.loaded(tmp_path / name, tree).scenario)
        for name, tree in (("all", runs.kernel(many=40)), ("some", partial(40, 10)))
    )
    for name in ("bytes_up_per_slot", "bytes_down_per_slot"):
        assert drawn[name] == everybody[name] / 4


def test_a_crowd_is_drawn_from_in_no_time() -> None:
    """10,000 draws of 100 of 10,000 take seconds of numpy; a loop over users would take minutes."""
    draw, everybody = Draw(100, "round", 5), np.ones(10_000, bool)
    assert sum(int(draw.among(everybody, t).sum()) for t in range(500)) == 500 * 100


def test_measures_are_over_those_who_took_part() -> None:
    summary = Summary(["a", "b", "c"], AlphaFair(1.0, 1.0, 4.0))
    assert summary.table(1.0, None)["jain"] is None
    record = RoundRecord.empty(0, 2, 3)
    record.status[:, 1:] = APPLIED
    record.utility[:, 1:] = [[3.0, 1.0], [3.0, 1.0]]
    summary.add(record)
    told = summary.table(1.0, None)
    assert told["utility_mean"] == {"a": None, "b": 3.0, "c": 1.0}
    assert (told["took_part"], told["worst_user"], told["worst_utility"]) == (2, "c", 1.0)
    assert told["jain"] == pytest.approx(16 / 20)
