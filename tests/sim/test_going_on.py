"""How often, from where and for how long a run is taken up again that lost a process."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import runs
from edge_server.judge import RunFailed
from sim import going_on
from sim.caller import Watcher
from sim.going_on import Recovery, taken_back
from sim.local import At, ProcessLost
from sim.reach import HeadLost
from sim.resume import resume_run
from sim.runner import parts_of
from sim.runner import run as run_scenario

LOST = ProcessLost("the edge died: killed")


class Lost:
    """A run of five rounds that was saved after the first, and has lost a process since."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        loaded = runs.loaded(folder, runs.kernel(rounds=5, **changes))
        self.out, self.notes, self.stop = folder / "out", list[str](), threading.Event()
        run_scenario(loaded, self.out, None, Watcher(), 1)
        (part, *_) = parts_of(loaded, self.out)
        self.recovery = Recovery(self.out, part.name, part.design, self.notes.append, self.stop.is_set)
        self.part, self.first = part, -1
        self.open()

    def open(self) -> None:
        _, self.recorder = taken_back(self.out, self.part.name, self.part.design, self.notes.append)

    def again(self, lost: ProcessLost = LOST) -> None:
        design, self.recorder = self.recovery.after(lost, self.recorder)
        self.first = design.plan.first
        self.recovery.pause()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(going_on, "_PAUSE", 0.0)


def test_five_tries_from_one_place_and_no_more(tmp_path: Path, quick: None) -> None:
    lost = Lost(tmp_path)
    for _ in range(5):
        lost.again()
        assert lost.first == 1
    with pytest.raises(ProcessLost, match=r"^the edge died: killed; it got no further in 5 tries from round 1$"):
        lost.again()
    told = runs.events(lost.out, "recovered")
    assert [(event["round"], event["slot"], event["tries"]) for event in told] == [(1, 0, n) for n in range(1, 6)]
    assert lost.notes == ["note: kernel: the edge died: killed; goes on from round 1"] * 5


def test_a_further_checkpoint_begins_the_count_anew(tmp_path: Path, quick: None) -> None:
    lost, asked = Lost(tmp_path), 0
    lost.again()
    lost.again()
    lost.recorder.leave()

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    assert resume_run(lost.out, None, None, Watcher(stop=stop)).status == "stopped"
    lost.open()
    lost.again()
    told = runs.events(lost.out, "recovered")
    assert [(event["round"], event["slot"], event["tries"]) for event in told] == [(1, 0, 1), (1, 0, 2), (2, 2, 1)]
    assert lost.notes[-1] == "note: kernel: the edge died: killed; goes on from round 2, slot 2"


def test_pauses_grow_and_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slept: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept[-1] += seconds

    monkeypatch.setattr(going_on, "sleep", sleep)
    monkeypatch.setattr(going_on, "monotonic", lambda: now)
    lost = Lost(tmp_path)
    for longest in (0.5, 1.5, 4.5, 13.5, 20.0):
        slept.append(0.0)
        lost.again()
        assert longest / 2 <= slept[-1] <= longest + 0.2


def test_a_wish_to_stop_ends_a_pause_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(going_on, "_PAUSE", 60.0)
    lost = Lost(tmp_path)
    threading.Timer(0.3, lost.stop.set).start()
    started = time.monotonic()
    lost.again()
    assert time.monotonic() - started < 5
    with pytest.raises(ProcessLost, match=r"^the edge died: killed$"):
        lost.again()


def test_a_run_that_is_to_fail_does_not_go_on(tmp_path: Path) -> None:
    lost = Lost(tmp_path, on_user_failure="fail")
    with pytest.raises(ProcessLost, match=r"^the edge died: killed$"):
        lost.again()
    assert not runs.events(lost.out, "recovered")


def test_without_its_cluster_it_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(HeadLost, match=r"^the head is gone$"):
        Lost(tmp_path).again(HeadLost("the head is gone"))


def test_without_a_whole_checkpoint_it_fails_and_says_why(tmp_path: Path) -> None:
    lost = Lost(tmp_path)
    (damaged,) = (lost.out / "checkpoints").glob("0*/edge.safetensors")
    damaged.write_bytes(b"")
    with pytest.raises(RunFailed, match=r"^the edge died: killed; no checkpoint in .* is whole: "):
        lost.again()


@pytest.mark.parametrize(("places", "first"), [([At(1, 0), At(0, 0)], 1), ([At(0, 0)], 0)])
def test_it_goes_back_to_where_everybody_can(tmp_path: Path, places: list[At], first: int) -> None:
    lost = Lost(tmp_path)
    part = lost.part
    recovery = Recovery(lost.out, part.name, part.design, lost.notes.append, lost.stop.is_set, lambda _: places)
    design, lost.recorder = recovery.after(LOST, lost.recorder)
    assert (design.plan.first, design.state is None) == (first, first == 0)
    assert lost.notes == [f"note: kernel: the edge died: killed; goes on from round {first}"]
