"""The runs of a reproduction, one core each. A run that is there already, of the same scenario, is not run again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib

from sim.caller import RunError
from sim.effective import effective
from sim.pool import Ended, Stopped, run_side_by_side
from sim.reproduce.jobs import Work

__all__ = ["Stopped", "is_there", "run_all"]


def run_all(jobs: Sequence[Work], root: Path, note: Callable[[str], None], stop: Callable[[], bool]) -> None:
    """Run what is missing below `root`. Raises RunError with the first failure, Stopped when `stop` says so."""
    jobs = list(dict.fromkeys(jobs))
    missing = [job for job in jobs if not is_there(job, root)]
    note(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them there already")
    over = list[str]()

    def on_end(index: int, ended: Ended) -> None:
        name = missing[index].name
        if ended.error is not None:
            raise RunError(f"{name}: {ended.error}")
        over.append(name)
        note(f"[{len(over)}/{len(missing)}] {name}: {ended.seconds:.0f} s")

    run_side_by_side(missing, root, joblib.cpu_count(), on_end, stop)


def is_there(job: Work, root: Path) -> bool:
    """The run is finished, and its scenario is what the job says now."""
    folder = root / job.name
    try:
        status = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["status"]
        same = (folder / "scenario.yaml").read_text(encoding="utf-8") == effective(job.load().scenario)
    except FileNotFoundError:
        return False
    return same and (status == "done" or (job.may_fail and status == "failed"))
