"""Slots that went on without users: `attendance.jsonl` says without whom; they are gone through to the same bits."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from test_dropped_users import slowly
from typer.testing import CliRunner

import runs
from edge_server.record import RoundRecord
from sim.attendance_file import FILE
from sim.caller import BadScenario, Result, RunError, Watcher
from sim.cli import app
from sim.resume import resume_run
from sim.runner import run

M, LATE = 10, 0.15
DROP = {"deadline": 0.1, "checkpoints": {"seconds": 1000.0}}
KERNEL = runs.kernel(many=3, rounds=6, slots=M, **DROP)
AHEAD = runs.changed(
    runs.digits(many=3, rounds=6, slots=M, batch=2, **DROP),
    users__0__front="none",
    users__1__front="none",
    users__2__front="none",
)
FRONTS = runs.digits(many=3, rounds=6, slots=M, batch=2, **DROP)
DRAWN = runs.kernel(many=4, rounds=6, slots=M, participation={"users": 3, "per": "slot"}, **DROP)
TREES = {"streams": KERNEL, "features ahead": AHEAD, "trained fronts": FRONTS, "drawn by slot": DRAWN}


def disturbed(folder: Path, tree: runs.Tree, monkeypatch: pytest.MonkeyPatch, watcher: Watcher | None = None) -> Result:
    """User 1 is late with feedback or features, in rounds of their own; it has caught up when they end."""
    slow, asked = {(0, 2): LATE, (4, 8): LATE}, {(2, 0): LATE, (3, 5): LATE}
    with monkeypatch.context() as patch:
        slowly(patch, 1, slow, asked)
        return runs.run(folder, tree, "grpc", watcher or Watcher(on_round=lambda _: time.sleep(2 * LATE)))


def log(folder: Path) -> list[runs.Tree]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


@pytest.mark.parametrize("tree", TREES.values(), ids=[*TREES])
def test_a_run_that_follows_the_attendance_of_another_has_its_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree
) -> None:
    first = disturbed(tmp_path / "first", tree, monkeypatch)
    assert {code for line in log(first.folder) for _, _, code in line["left_out"]} == {
        "away", "no_features", "no_answer",
    }  # fmt: skip
    for transport in ("memory", "grpc"):
        again = run(runs.loaded(tmp_path, tree, transport), tmp_path / transport, None, Watcher(), None, first.folder)
        assert again.digest == first.digest is not None
        assert (again.folder / FILE).read_bytes() == (first.folder / FILE).read_bytes()
        for column in ("status", "bytes_up", "bytes_down"):
            assert runs.slots(again.folder)[column].tolist() == runs.slots(first.folder)[column].tolist(), column


def test_a_run_that_failed_goes_on_from_its_start_with_what_it_had_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first four rounds are gone through again: without the log nobody would be late in them."""

    def fail(record: RoundRecord) -> None:
        time.sleep(2 * LATE)
        if record.round == 3:
            raise RuntimeError("the disk of somebody's notebook is full")

    with pytest.raises(RunError, match="notebook"):
        disturbed(tmp_path, {**KERNEL, "patience": 3.0}, monkeypatch, Watcher(on_round=fail))
    folder = tmp_path / "grpc"
    before, lines = runs.slots(folder), log(folder)
    assert {"late", "absent"} < {*before["status"].tolist()}
    result = resume_run(folder, "memory", None, Watcher())
    after = runs.slots(folder)
    for column in ("loss", "utility", "weight", "status"):
        np.testing.assert_array_equal(after[column][: len(before[column])], before[column])
    assert log(folder)[: len(lines)] == lines
    assert {*after["status"][len(before["status"]) :].tolist()} == {"applied"}
    assert result.status == "done"


@pytest.mark.parametrize(
    ("changes", "content", "said"),
    [
        ({"deadline": None}, "", "slots go on without users where on_user_failure is drop, here it is wait"),
        ({}, None, "No such file or directory; give the directory of a run with on_user_failure: drop"),
        ({}, '{"round": 0, "left_out": [[1, "eve", "away"]]}\n', r":1: not the attendance of round 0 of this scenario"),
        ({}, '{"round": 1, "left_out": []}\n', r":1: not the attendance of round 0 of this scenario \(round 1\)"),
        ({}, "[]\n", r":1: not the attendance of round 0"),
    ],
    ids=["nobody is dropped", "no run", "another user", "another round", "not ours"],
)
def test_what_cannot_be_followed_is_one_line(
    tmp_path: Path, changes: runs.Tree, content: str | None, said: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    if content is not None:
        (there / FILE).write_text(content)
    loaded = runs.loaded(tmp_path, {**KERNEL, **changes})
    with pytest.raises(BadScenario, match=said):
        run(loaded, tmp_path / "out", None, Watcher(), None, there)


def test_the_command_follows_and_says_so(tmp_path: Path) -> None:
    tree = runs.kernel(many=2, rounds=2, slots=3, on_user_failure="drop")
    there = tmp_path / "there"
    there.mkdir()
    (there / FILE).write_text('{"round": 0, "left_out": [[1, "user_01", "away"]]}\n{"round": 1, "lef')
    line = [str(runs.write(tmp_path, tree)), "--out", str(tmp_path / "out"), "--attendance", str(there), "--quiet"]
    ended = CliRunner().invoke(app, ["run", *line])
    assert ended.exit_code == 0, ended.output
    assert runs.events(tmp_path / "out", "follows")[0]["rounds"] == 1
    status = runs.slots(tmp_path / "out")["status"].tolist()
    assert [n for n, word in enumerate(status) if word != "applied"] == [3]
    assert [line["round"] for line in log(tmp_path / "out")] == [0, 1]
