"""Runs side by side: what their processes do when they end, are killed, or lose their parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from pool_runs import Deadly, Patient, Wrong

from sim.pool import Ended, Run, Stopped, run_side_by_side

FOREVER = 600.0


def never() -> bool:
    return False


def ends(jobs: Sequence[Run], root: Path, workers: int, stop=never) -> dict[str, Ended]:
    found: dict[str, Ended] = {}

    def on_end(index: int, ended: Ended) -> None:
        assert jobs[index].name not in found
        found[jobs[index].name] = ended

    run_side_by_side(jobs, root, workers, on_end, stop)
    return found


def workers() -> list[psutil.Process]:
    """Processes of the pool; beside them spawn keeps a tracker of its own."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def begun(root: Path) -> dict[str, int]:
    """Process ids by run."""
    texts = {path.parent.name: path.read_text() for path in root.glob("*/begun")}
    return {name: int(text) for name, text in texts.items() if text}


def test_every_run_is_done_by_as_many_processes_as_asked_for(tmp_path: Path) -> None:
    jobs = [Patient(f"run{number}", 0.05) for number in range(6)]
    assert ends(jobs, tmp_path, 2) == {job.name: Ended(0.05, None) for job in jobs}
    assert len({*begun(tmp_path).values()}) == 2
    assert ends([], tmp_path, 2) == {}
    assert workers() == []


def test_what_half_a_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "half").touch()
    assert ends([Patient("a", 0.0)], tmp_path, 1)["a"].error is None
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["begun", "done"]


def test_a_failure_is_one_line_and_stops_nobody(tmp_path: Path) -> None:
    found = ends([Wrong("wrong", ("a=1", "b=2")), Patient("right", 0.0)], tmp_path, 1)
    assert found["wrong"].error == "ValueError: ('a=1', 'b=2') in 1 thread"
    assert found["right"].error is None


def test_a_run_whose_process_always_dies_is_a_failure(tmp_path: Path) -> None:
    found = ends([Deadly("deadly"), Patient("one", 0.0), Patient("two", 0.0)], tmp_path, 1)
    assert found["deadly"].error == "its process died twice (killed? out of memory?)"
    assert (found["one"].error, found["two"].error) == (None, None)
    assert [*found][-1] == "deadly"


def test_a_killed_process_costs_its_run_no_more_than_time(tmp_path: Path) -> None:
    victims: list[int] = []

    def kill_one() -> bool:
        if not victims and len(pids := begun(tmp_path)) == 2:
            victims.append(pids["a"])
            os.kill(pids["a"], signal.SIGKILL)
        return False

    found = ends([Patient("a", 0.5), Patient("b", 0.5), Patient("c", 0.0)], tmp_path, 2, kill_one)
    assert {name: ended.error for name, ended in found.items()} == {"a": None, "b": None, "c": None}
    assert begun(tmp_path)["a"] != victims[0]
    assert workers() == []


def test_stopped_runs_end_by_themselves(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        ends([Patient("a", FOREVER), Patient("b", FOREVER)], tmp_path, 2, lambda: len(begun(tmp_path)) == 2)
    assert {path.parent.name for path in tmp_path.glob("*/stopped")} == {"a", "b"}
    assert workers() == []


def test_what_on_end_raises_ends_the_others(tmp_path: Path) -> None:
    def on_end(index: int, ended: Ended) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        run_side_by_side([Patient("a", FOREVER), Patient("b", 0.0)], tmp_path, 2, on_end, never)
    assert (tmp_path / "a" / "stopped").exists()
    assert workers() == []


PARENT = """
from pathlib import Path
from pool_runs import Patient
from sim.pool import run_side_by_side

if __name__ == "__main__":
    jobs = [Patient("a", 600.0), Patient("b", 600.0)]
    run_side_by_side(jobs, Path(__file__).parent, 2, lambda _index, _ended: None, lambda: False)
"""


def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    here = Path(__file__).parent
    paths = os.pathsep.join((str(here), str(here.parents[1])))
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], env={**os.environ, "PYTHONPATH": paths}, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while len(begun(tmp_path)) < 2:
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        family = psutil.Process(parent.pid).children(recursive=True)
        assert {process.pid for process in family} >= {*begun(tmp_path).values()}
        parent.kill()
        assert psutil.wait_procs(family, timeout=5)[1] == []
        assert not [*tmp_path.glob("*/stopped")]
    finally:
        parent.kill()
        parent.wait()
