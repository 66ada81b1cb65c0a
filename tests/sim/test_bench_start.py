"""`bench start`: the first slot is waited for, what is measured is told, and a start needs little beside torch."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import runs
import sim.bench.start
from sim.bench.commands import app
from sim.bench.process import WorkerFailed
from sim.bench.start import KINDS, Turn, _first_slot, _floor, _has_slot, report
from sim.caller import Watcher
from sim.cli import app as whole

pytestmark = pytest.mark.alone

TURNS = [
    Turn("memory", 3.0, 2.0), Turn("ray", 8.0, 5.0),
    Turn("memory", 2.0, 2.0), Turn("ray", 5.0, 5.0),
    Turn("memory", 4.4, 2.2), Turn("ray", 20.0, 10.0),
]  # fmt: skip
NOT_NEEDED = (
    "matplotlib",
    "scipy",
    "sklearn",
    "pyarrow.parquet",
    "pyarrow.compute",
    "jinja2",
    "ray",
    "torchjd",
    "joblib",
)


def test_a_first_slot_takes_longer_than_its_floor_and_leaves_nothing() -> None:
    before = {*Path("/tmp").glob("equiran-start-*")}
    started = time.perf_counter()
    floor, first = _floor("memory"), _first_slot("memory")
    assert 0.1 < floor < first < time.perf_counter() - started
    assert {*Path("/tmp").glob("equiran-start-*")} <= before


def test_a_journal_has_a_slot_once_its_first_round_is_there(tmp_path: Path) -> None:
    journal, seen = tmp_path / "out" / "slots.arrows", list[bool]()
    assert not _has_slot(journal)
    watcher = Watcher(
        on_start=lambda _name, _rounds: seen.append(_has_slot(journal)),
        on_round=lambda _record: seen.append(_has_slot(journal)),
    )
    runs.run(tmp_path, runs.kernel(rounds=2), watcher=watcher)
    assert seen == [False, True, True]


def test_a_run_that_ends_without_a_slot_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.bench.start, "_SCENARIO", "schema: 1\n")
    with pytest.raises(WorkerFailed, match="had no first slot"):
        _first_slot("memory")


def test_ratios_are_paired() -> None:
    found = json.loads(json.dumps(report(TURNS)))
    assert (found["memory_ratio"], found["ray_ratio"]) == (1.5, 1.6)
    assert (found["memory_first_slot_s"], found["memory_floor_s"]) == (3.0, 2.0)
    assert (found["turns"], found["ray_bar"]) == (3, 1.5)
    assert report(TURNS[:2])["ray_ratio_quartiles"] == [1.6, 1.6]


def test_the_command_tells_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(sim.bench.start, "measure", lambda turns, _note: asked.append(turns) or TURNS)
    result = CliRunner().invoke(app, ["start", "--turns", "3", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {f"{kind}_{key}" for kind in KINDS for key in ("first_slot_s", "floor_s", "ratio", "bar")} <= told.keys()
    assert asked == [3]
    assert "from nothing to the first slot" in CliRunner().invoke(app, ["start"]).stdout


@pytest.mark.parametrize(("module", "not_needed"), [("sim.cli", ("torch", *NOT_NEEDED)), ("sim.runner", NOT_NEEDED)])
def test_nothing_is_imported_that_is_not_needed(module: str, not_needed: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print([name for name in {not_needed} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_benchmarks_are_there_when_asked_for() -> None:
    listed = CliRunner().invoke(whole, ["bench", "--help"]).stdout
    assert all(name in listed for name in ("slot", "scale", "power", "sweep", "start"))
    unknown = CliRunner().invoke(whole, ["bench", "slots"])
    assert unknown.exit_code == 2
    assert "No such command 'slots'" in unknown.output
