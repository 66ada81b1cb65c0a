"""What the page is told is what the records say: while a run lives, when it is over, and when they are not in order."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from growing import ON_AIR, Growing

import runs
from sim.live.curves import Curves
from sim.live.owner import Control
from sim.live.people import users
from sim.live.view import head, tiles
from sim.live.watched import Watched
from sim.report.columns import read_rounds
from sim.report.files import UnreadableRun, read_table
from sim.report.tables import mean
from sim.report.words import number, seconds, size


def looked(folder: Path) -> Watched:
    run = Watched(folder)
    while run.look():
        pass
    return run


def values(run: Watched) -> dict[str, str]:
    return {tile["label"]: tile["value"] for tile in tiles(run)}


def notes(run: Watched) -> dict[str, str]:
    return {tile["label"]: tile["note"] for tile in tiles(run)}


def cells(run: Watched, key: str) -> list[str]:
    return next(cells for name, _, cells in users(run)["columns"] if name == key)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an oracle, so that there is regret."""
    tree = runs.kernel(many=3, rounds=6, slots=9)
    return runs.run(tmp_path_factory.mktemp("done"), runs.changed(tree, edge__meta__target="oracle")).folder


@pytest.fixture(scope="module")
def on_air(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = runs.kernel(many=3, rounds=4, slots=9, **ON_AIR)
    return runs.run(tmp_path_factory.mktemp("air"), tree).folder


def test_numbers_of_a_run_that_is_over_are_those_of_its_summary(done: Path) -> None:
    summary, run = runs.read_json(done / "summary.json"), looked(done)
    shown = values(run)
    assert shown["Fairness"] == number(summary["fairness_mean"])
    assert shown["Regret"] == number(summary["regret_mean"])
    assert shown["Worst utility"] == number(summary["worst_utility"])
    assert shown["Slots per second"] == number(summary["slots_per_second"])
    both = [sum(user[way] for user in summary["bytes"].values()) for way in ("up", "down")]
    assert (shown["Bytes"], notes(run)["Bytes"]) == (size(sum(both)), f"{size(both[0])} up · {size(both[1])} down")
    assert cells(run, "mean_utility") == [number(value) for value in summary["utility_mean"].values()]
    facts = dict(head(run, Control())["facts"])
    assert facts["took"] == seconds(summary["wall_seconds"])
    assert facts["digest"] == summary["digest"][:12]


def test_without_a_summary_they_are_the_same_sums_over_the_records(done: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(done, bare)
    (bare / "summary.json").unlink()
    told, own = values(looked(done)), values(looked(bare))
    rate = "Slots per second"
    assert {**own, rate: ""} == {**told, rate: ""}
    assert own[rate] == number(None)


def test_numbers_of_the_table_are_in_the_parquet_files(done: Path) -> None:
    run, slots, rounds = looked(done), runs.slots(done), runs.rounds(done)
    for k, user in enumerate(run.tables.users if run.tables else ()):
        mine, last = slots["user"] == user, (rounds["user"] == user) & (rounds["round"] == 5)
        assert cells(run, "mean_utility")[k] == number(slots["utility"][mine].mean())
        assert cells(run, "utility")[k] == number(rounds["mean_utility"][last][0])
        assert cells(run, "weight")[k] == number(rounds["w_mean"][last][0])
        assert cells(run, "up")[k] == size(int(slots["bytes_up"][mine].sum()))
    assert notes(run)["Slots per second"].startswith(f"{1000 * np.median(slots['t_slot']):.3g} ms")


def test_curves_are_the_columns(done: Path) -> None:
    run, slots, rounds = looked(done), runs.slots(done), runs.rounds(done)
    curves = Curves().news(run)
    assert curves["utility"]["names"] == ("user_00", "user_01", "user_02")
    np.testing.assert_allclose(curves["utility"]["y"], slots["utility"].reshape(54, 3).T, rtol=1e-5)
    np.testing.assert_allclose(curves["weight"]["y"], np.abs(slots["weight"].reshape(54, 3).T), rtol=1e-5)
    np.testing.assert_allclose(curves["utility"]["x"], np.arange(54) / 9, rtol=1e-5)
    for name in ("fairness", "regret"):
        np.testing.assert_allclose(curves[name]["y"][0], rounds[name][::3], rtol=1e-5)


def test_the_radio_is_as_recorded(on_air: Path) -> None:
    run, summary = looked(on_air), runs.read_json(on_air / "summary.json")
    assert summary["deadline_misses"] > 0
    assert values(run)["Missed deadlines"] == f"{summary['deadline_misses']:,}"
    assert values(run)["Virtual time"] == seconds(summary["virtual_seconds"])
    table, _ = read_table(on_air, "radio", live=False, needed=True)
    gain = table["gain"].to_numpy().reshape(-1, 3)[-32:].mean(axis=0)
    numbers = users(run)["numbers"]
    np.testing.assert_allclose(numbers["gain_db"], 10 * np.log10(gain), rtol=1e-5)
    rounds = runs.rounds(on_air)
    np.testing.assert_allclose(np.array(numbers["power"], float), rounds["power_mean"][-3:], rtol=1e-5)


def test_it_grows_with_the_run(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    run, curves = Watched(growing.folder), Curves()
    run.look()
    assert (run.status, tiles(run), curves.news(run)) == ("running", [], {})
    assert users(run)["many"] == 3
    growing.grow(2)
    run.look()
    whole = curves.news(run)
    assert whole["utility"]["from"] == 0
    assert curves.news(run) == {}
    growing.grow(1)
    version = run.version
    run.look()
    assert run.version > version
    news = curves.news(run)
    assert (news["utility"]["from"], len(news["utility"]["x"])) == (8, 4)
    assert (news["fairness"]["from"], len(news["fairness"]["x"])) == (2, 1)
    table, _ = read_table(growing.folder, "rounds", live=True, needed=True)
    found = read_rounds(table, growing.folder)
    assert values(run)["Fairness"] == number(mean(found.shared("fairness")))
    growing.finish()
    run.look()
    assert (run.status, head(run, Control())["done"]) == ("stopped", 3)


def test_a_run_that_goes_on_from_its_checkpoint_begins_again(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    growing.grow(5)
    run, curves = looked(growing.folder), Curves()
    assert len(curves.news(run)["fairness"]["x"]) == 5
    again = Growing(tmp_path / "run")
    again.grow(2)
    while run.look():
        pass
    news = curves.news(run)["fairness"]
    assert (news["from"], len(news["x"])) == (0, 2)


def test_ten_thousand_slots_are_read_within_bounds(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run", users=4, slots=50, rounds=400)
    growing.grow(200)
    start = time.perf_counter()
    run = looked(growing.folder)
    assert time.perf_counter() - start < 5
    curve = Curves().news(run)["utility"]
    assert (run.slots, curve["width"]) == (10_000, 16)
    assert len(curve["x"]) == 625
    utility = np.concatenate([growing_record.utility for growing_record in replayed(4, 50, 200)])
    np.testing.assert_allclose(curve["y"], utility.reshape(625, 16, 4).mean(axis=1).T, rtol=1e-5)


def replayed(users_: int, slots: int, rounds: int) -> list:
    """The same records from the same seed."""
    other = Growing.__new__(Growing)
    other.users, other._slots = [f"user_{k:02d}" for k in range(users_)], slots
    other._rng = np.random.default_rng(7)
    return [other.record(t) for t in range(rounds)]


def test_many_users_are_bands_and_the_two_ends(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run", users=300, slots=4)
    growing.grow(3)
    run = looked(growing.folder)
    curve, shown = Curves().news(run)["utility"], users(run)
    utility = runs_utility(growing.folder)
    assert curve["band"]
    np.testing.assert_allclose(curve["y"][2], np.median(utility, axis=1), rtol=1e-5)
    worst = utility.mean(axis=0).argmin()
    assert curve["names"][5] == f"worst: user_{worst:02d}"
    np.testing.assert_allclose(curve["y"][5], utility[:, worst], rtol=1e-5)
    assert (len(shown["names"]), shown["many"]) == (200, 300)
    assert f"user_{worst:02d}" in shown["names"]


def runs_utility(folder: Path) -> np.ndarray:
    table, _ = read_table(folder, "slots", live=True, needed=True)
    return table["utility"].to_numpy().reshape(-1, 300)


def test_a_run_that_records_no_slots_shows_its_rounds(tmp_path: Path) -> None:
    folder = runs.run(tmp_path, runs.kernel(rounds=5, record={"slots": False})).folder
    run, rounds = looked(folder), runs.rounds(folder)
    curve = Curves().news(run)["utility"]
    np.testing.assert_allclose(curve["y"], rounds["mean_utility"].reshape(5, 2).T, rtol=1e-5)
    assert curve["x"] == [0, 1, 2, 3, 4]
    assert "Bytes" not in values(run)


def test_who_runs_is_found_through_the_lock(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    assert looked(growing.folder).status == "running"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    growing.lock(gone.pid)
    assert looked(growing.folder).status == "interrupted"
    growing.lock(os.getpid(), host="elsewhere")
    run = looked(growing.folder)
    assert run.status == "running"
    assert head(run, Control())["controls"] == f"runs as process {os.getpid()} on elsewhere: ask it there"
    (growing.folder / "lock").unlink()
    assert looked(growing.folder).status == "interrupted"


def test_a_process_with_the_number_of_a_dead_one_is_another(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    long_ago = time.time() - 1e6
    os.utime(growing.folder / "lock", (long_ago, long_ago))
    assert looked(growing.folder).status == "interrupted"


def test_a_compared_run_is_owned_through_the_run_it_is_compared_with(tmp_path: Path) -> None:
    base, other = Growing(tmp_path / "run"), Growing(tmp_path / "run" / "equal")
    base.finish()
    (other.folder / "lock").replace(base.folder / "lock")
    assert looked(other.folder).status == "running"


def test_a_directory_that_vanishes_is_one_line(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    growing.grow(1)
    run = looked(growing.folder)
    shutil.rmtree(growing.folder)
    with pytest.raises(UnreadableRun, match=r"^.*run is gone$"):
        run.look()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("manifest.json", "{", r"manifest\.json:1: not JSON"),
        ("manifest.json", "[1]", "must hold one JSON object"),
        ("scenario.yaml", "a: [", r"scenario\.yaml: not YAML"),
        ("events.jsonl", '{"event": "join"}\nno\n', r"events\.jsonl:2: not JSON"),
        ("rounds.arrows", "nonsense, longer than a prefix", r"rounds\.arrows: damaged"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, file: str, content: str, said: str) -> None:
    growing = Growing(tmp_path / "run")
    growing.grow(1)
    (growing.folder / file).write_text(content)
    with pytest.raises(UnreadableRun, match=said) as caught:
        looked(growing.folder)
    assert "\n" not in str(caught.value)


def test_an_empty_directory_waits(tmp_path: Path) -> None:
    run = looked(tmp_path)
    assert (run.status, tiles(run), users(run)["names"]) == ("waiting", [], [])
