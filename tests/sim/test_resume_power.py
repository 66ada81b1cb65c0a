"""`equiran resume`: a training run that was stopped, interrupted or killed ends at the bits of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from power_runs import command, loaded, written
from typer.testing import CliRunner, Result

import runs
from sim import power_checkpoints, power_run
from sim.checkpoint_files import NotSaved
from sim.cli import app
from sim.power_run import PowerWatcher, train_power
from sim.run_lock import locked

ROOT = Path(__file__).parents[2]
EAGER = "import sys; from sim import power_checkpoints; power_checkpoints.PAUSE = .1; from sim.cli import main; main()"
"""The command, with a checkpoint every tenth of a second."""
ENDED = """
import os, sys
from sim.power_checkpoints import PowerCheckpoints

number, at = (int(sys.argv.pop(1)) for _ in range(2))

def save_when_due(self, trainer, seconds):
    if trainer.taken % 5 == 0:
        self.save(trainer, seconds)
    if trainer.taken == at:
        os.kill(os.getpid(), number)

PowerCheckpoints.save_when_due = save_when_due
from sim.cli import main
main()
"""
"""The command, with a checkpoint every five steps, and a signal at one of them."""
OPTIONS: dict[str, Any] = {"second_stage": "reinit", "schedule": "cosine", "skip": True, "every": 3}


def resume(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["resume", str(folder), *options])


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def check_same(folder: Path, whole: Path) -> None:
    """Equal weights, policy, scores and progress."""
    for name in ("state.safetensors", "policy.safetensors", "policy.json", "scenario.yaml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert pq.read_table(folder / "progress.parquet").equals(pq.read_table(whole / "progress.parquet"))
    ours, theirs = (runs.read_json(place / "power.json") for place in (folder, whole))
    assert {**ours, "train_seconds": 0} == {**theirs, "train_seconds": 0}
    ours, theirs = (runs.read_json(place / "manifest.json") for place in (folder, whole))
    assert (ours["status"], ours["digest"]) == ("done", theirs["digest"])
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize("stop", [1, 19, 20, 21, 33])
def test_stopped_after_any_step_it_ends_at_the_same_bits(tmp_path: Path, stop: int) -> None:
    file = written(tmp_path)
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    stopped = told(command(file, tmp_path / "out", "--json", "--quiet", "--stop-after", str(stop)))
    assert (stopped["status"], stopped["steps"]) == ("stopped", stop)
    assert not (tmp_path / "out" / "power.json").exists()
    assert told(resume(tmp_path / "out", "--json", "--quiet"))["status"] == "done"
    check_same(tmp_path / "out", tmp_path / "whole")
    assert [event["step"] for event in events(tmp_path / "out") if event["event"] == "resumed"] == [stop]


def test_stopped_while_it_is_scored_it_is_only_scored_again(tmp_path: Path) -> None:
    scenario, parts = loaded(tmp_path), list[str]()
    watcher = PowerWatcher(on_start=lambda what, _total: parts.append(what), stop=lambda: len(parts) > 1)
    assert train_power(scenario, tmp_path / "out", watcher).status == "stopped"
    told(resume(tmp_path / "out", "--json", "--quiet"))
    told(command(tmp_path / "power.yaml", tmp_path / "whole", "--json", "--quiet"))
    check_same(tmp_path / "out", tmp_path / "whole")
    assert [event["step"] for event in events(tmp_path / "out") if event["event"] == "resumed"] == [50]


def test_it_says_how_to_go_on(tmp_path: Path) -> None:
    result = command(written(tmp_path), tmp_path / "out", "--stop-after", "5")
    assert result.exit_code == 0
    assert f"small: stopped after 5 steps; go on with: equiran resume {tmp_path / 'out'}" in result.stdout
    assert "goes on from step 5\n" in resume(tmp_path / "out").stderr


def test_a_stop_after_all_steps_stops_nothing(tmp_path: Path) -> None:
    done = told(command(written(tmp_path), tmp_path / "out", "--json", "--quiet", "--stop-after", "50"))
    assert done["status"] == "done"


def started(script: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words), "--json", "--quiet"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def saved_steps(folder: Path) -> list[int]:
    place = folder / "checkpoints"
    return sorted(int(path.name) for path in place.iterdir() if path.name.isdecimal()) if place.is_dir() else []


@pytest.mark.parametrize(
    ("number", "step", "code", "last"),
    [(signal.SIGINT, 12, 130, 13), (signal.SIGKILL, 12, -9, 10), (signal.SIGINT, 41, 130, 42),
     (signal.SIGKILL, 41, -9, 40)],
    ids=["interrupted in stage 1", "killed in stage 1", "interrupted in stage 2", "killed in stage 2"],
)  # fmt: skip
def test_ended_by_a_signal_it_goes_on_to_the_same_bits(
    tmp_path: Path, number: signal.Signals, step: int, code: int, last: int
) -> None:
    file, out = written(tmp_path, **OPTIONS), tmp_path / "out"
    process = started(ENDED, int(number), step, "train-power", file, "--out", out)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == code, stderr
    assert saved_steps(out)[-1] == last
    assert (out / "lock").exists() == (out / "progress.arrows").exists() == (number == signal.SIGKILL)
    assert told(resume(out, "--json", "--quiet"))["status"] == "done"
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    check_same(out, tmp_path / "whole")


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path) -> None:
    file, out = written(tmp_path, **{**OPTIONS, "stages": [1500, 1500]}), tmp_path / "out"
    words: list[object] = ["train-power", file, "--out", out]
    for _ in range(4):
        before, process = saved_steps(out)[-1:], started(EAGER, *words)
        try:
            deadline = time.monotonic() + 60
            while saved_steps(out)[-1:] <= before:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "nothing happened"
                time.sleep(0.01)
        finally:
            process.kill()
            process.communicate()
        words = ["resume", out]
    told(resume(out, "--json", "--quiet"))
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    check_same(out, tmp_path / "whole")
    assert len([event for event in events(out) if event["event"] == "resumed"]) == 4


def test_killed_before_the_first_checkpoint_it_starts_from_the_beginning(tmp_path: Path) -> None:
    file = written(tmp_path)
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    told(command(file, tmp_path / "out", "--json", "--quiet", "--stop-after", "7"))
    for step in saved_steps(tmp_path / "out"):
        for path in (tmp_path / "out" / "checkpoints" / f"{step:012d}").iterdir():
            path.unlink()
        (tmp_path / "out" / "checkpoints" / f"{step:012d}").rmdir()
    told(resume(tmp_path / "out", "--json", "--quiet"))
    check_same(tmp_path / "out", tmp_path / "whole")


def test_a_journal_cut_off_and_events_cut_off_are_mended(tmp_path: Path) -> None:
    file = written(tmp_path, every=1)
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    told(command(file, tmp_path / "out", "--json", "--quiet", "--stop-after", "9"))
    out = tmp_path / "out"
    other = tmp_path / "later"
    told(command(file, other, "--json", "--quiet", "--stop-after", "12"))
    rows = pq.read_table(other / "progress.parquet")
    (out / "progress.parquet").unlink()
    with (out / "progress.arrows").open("wb") as stream, pa.ipc.new_stream(stream, rows.schema) as writer:
        for batch in rows.to_batches(max_chunksize=3):
            writer.write_batch(batch)
    os.truncate(out / "progress.arrows", (out / "progress.arrows").stat().st_size - 100)
    with (out / "events.jsonl").open("a") as file_:
        file_.write('{"time": "2026')
    told(resume(out, "--json", "--quiet"))
    check_same(out, tmp_path / "whole")
    assert {"checkpoint", "resumed", "masks_hardened"} <= {event["event"] for event in events(out)}


def stopped(tmp_path: Path) -> Path:
    told(command(written(tmp_path), tmp_path / "out", "--json", "--quiet", "--stop-after", "25"))
    return tmp_path / "out"


def refused(folder: Path) -> str:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = resume(folder, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return line


def test_a_done_run_is_told_about_and_left_alone(tmp_path: Path) -> None:
    done = told(command(written(tmp_path), tmp_path / "out", "--json", "--quiet"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    result = resume(tmp_path / "out", "--json")
    assert told(result) == done
    assert result.stderr == f"{tmp_path / 'out'} is done already\n"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_trainer_by_itself_has_no_transport(tmp_path: Path) -> None:
    out = stopped(tmp_path)
    assert resume(out, "--transport", "grpc").exit_code == 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith(f"{tmp_path} is not a run: manifest.json is missing")


@pytest.mark.parametrize(
    ("manifest", "said"), [("{", r":1: not JSON"), ("{}", "has no 'name'"), ("[]", "must hold one JSON object")]
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, manifest: str, said: str) -> None:
    command(written(tmp_path), tmp_path / "out", "--quiet", "--stop-after", "3")
    (tmp_path / "out" / "manifest.json").write_text(manifest)
    result = resume(tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_changed_scenario_is_refused_by_its_field(tmp_path: Path) -> None:
    out = stopped(tmp_path)
    text = (out / "scenario.yaml").read_text()
    (out / "scenario.yaml").write_text(text.replace("batch: 8", "batch: 16"))
    assert "edge.server_tasks.0.batch is 16 here and 8 in the checkpoint" in refused(out)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used_or_none(tmp_path: Path) -> None:
    file = written(tmp_path)
    told(command(file, tmp_path / "whole", "--json", "--quiet"))
    out = stopped(tmp_path)
    older = tmp_path / "older"
    told(command(file, older, "--json", "--quiet", "--stop-after", "15"))
    (older / "checkpoints" / "000000000015").rename(out / "checkpoints" / "000000000015")
    state = out / "checkpoints" / "000000000025" / "state.safetensors"
    os.truncate(state, state.stat().st_size - 1)
    result = resume(out, "--json")
    told(result)
    assert f"note: {state} has " in result.stderr
    assert "goes on from step 15" in result.stderr
    check_same(out, tmp_path / "whole")


def test_without_a_whole_checkpoint_it_is_refused(tmp_path: Path) -> None:
    out = stopped(tmp_path)
    os.truncate(out / "checkpoints" / "000000000025" / "clock.json", 1)
    assert "is whole: " in refused(out)
    assert "clock.json has 1 bytes" in refused(out)


def test_a_live_run_is_refused_with_its_process(tmp_path: Path) -> None:
    out = stopped(tmp_path)
    with locked(out):
        assert f"in use by process {os.getpid()} on " in refused(out)


def test_other_versions_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = power_checkpoints.numeric_versions
    with monkeypatch.context() as patch:
        patch.setattr(power_checkpoints, "numeric_versions", lambda: {**real(), "torch": "1.0"})
        out = stopped(tmp_path)
    assert "note: the checkpoint was made with torch 1.0, this is 2." in resume(out).stderr


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise NotSaved("checkpoint 1 could not be saved: No space left on device")

    monkeypatch.setattr(power_checkpoints.CheckpointFolder, "save", full)
    monkeypatch.setattr(power_checkpoints, "PAUSE", 0)
    result = command(written(tmp_path), tmp_path / "out", "--json")
    assert told(result)["status"] == "done"
    assert "note: checkpoint 1 could not be saved: No space left on device" in result.stderr
    assert "not_saved" in {event["event"] for event in events(tmp_path / "out")}


def test_a_run_that_diverged_diverges_again(tmp_path: Path) -> None:
    file = written(tmp_path, rate=1e38)
    assert command(file, tmp_path / "out", "--quiet").exit_code == 1
    first = runs.read_json(tmp_path / "out" / "manifest.json")
    again = resume(tmp_path / "out", "--quiet")
    assert again.exit_code == 1
    assert first["error"] in again.stderr
    assert runs.read_json(tmp_path / "out" / "manifest.json")["status"] == "failed"


def test_saving_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is: the pause grows with it."""
    clock = iter(range(10_000))
    monkeypatch.setattr(power_checkpoints, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(power_checkpoints, "PAUSE", 0)
    monkeypatch.setattr(power_run.PowerRun, "_on_save", lambda *_: None)
    saves: list[int] = []
    monkeypatch.setattr(power_checkpoints.CheckpointFolder, "save", lambda _self, step, _files: saves.append(step))
    assert command(written(tmp_path, stages=[100, 100]), tmp_path / "out", "--quiet").exit_code == 0
    gaps = [later - earlier for earlier, later in pairwise(saves)]
    assert min(gaps[:-1]) >= power_checkpoints.LEAST
