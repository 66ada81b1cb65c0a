"""A run is held between two slots while `pause` lies in its directory: the same bits, and an event."""

import threading
from pathlib import Path

import runs
from sim.caller import Watcher
from sim.pause_file import FILE

TREE = runs.kernel(many=3, rounds=60, slots=10)
HELD = 0.6


def test_a_held_run_has_the_same_bits_and_says_how_long(tmp_path: Path) -> None:
    quiet = runs.run(tmp_path / "quiet", TREE)
    out = tmp_path / "out"
    watcher = Watcher(on_round=lambda record: hold(out, HELD) if record.round == 1 else None)
    held = runs.run(tmp_path, runs.changed(TREE, rounds=60), watcher=watcher)
    assert (held.status, held.digest) == ("done", quiet.digest)
    (paused,), (continued,) = runs.events(out, "paused"), runs.events(out, "continued")
    assert paused["round"] == continued["round"] > 1
    assert HELD - 0.4 <= continued["seconds"] <= HELD + 2
    assert not (out / FILE).exists()


def hold(out: Path, seconds: float) -> None:
    (out / FILE).touch()
    threading.Timer(seconds, (out / FILE).unlink).start()


def test_what_an_earlier_run_left_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).touch()
    result = runs.run(tmp_path, TREE)
    assert result.status == "done"
    assert runs.events(result.folder, "paused") == []
    assert not (result.folder / FILE).exists()


def test_who_is_asked_to_stop_while_held_stops(tmp_path: Path) -> None:
    asked = threading.Event()

    def on_round(record) -> None:
        if record.round == 1:
            (tmp_path / "out" / FILE).touch()
            threading.Timer(0.5, asked.set).start()

    result = runs.run(tmp_path, TREE, watcher=Watcher(on_round=on_round, stop=asked.is_set))
    assert result.status == "stopped"
    assert [event["event"] for event in runs.events(result.folder)][-1] in ("continued", "checkpoint")
    assert not (result.folder / FILE).exists()
