"""A sweep from its plan to its table and its picture; what is done is not done again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sim.caller import RunError
from sim.cluster import Cluster
from sim.console import Screen
from sim.pool import Ended, run_side_by_side
from sim.reach import ClusterError
from sim.run_lock import InUse, locked
from sim.sweep.picture import draw
from sim.sweep.plan import Plan, Planned, is_done, jobs_that_fit
from sim.sweep.remote import run_on_cluster
from sim.sweep.table import Table, as_dict, read_table, write_csv


class Swept(NamedTuple):
    """What a sweep leaves. png: None where no run has a number to draw."""

    folder: Path
    table: Table
    csv: Path
    png: Path | None

    def told(self) -> dict[str, Any]:
        """For `--json`."""
        files = {"dir": str(self.folder), "table": str(self.csv), "picture": self.png and str(self.png)}
        return {**files, **as_dict(self.table)}


class Room(NamedTuple):
    """Where runs go. jobs: at a time; None for as many as there is room for. address: of a cluster; None: here."""

    jobs: int | None
    address: str | None = None


def sweep(plan: Plan, folder: Path, room: Room, screen: Screen, stop: Callable[[], bool]) -> Swept:
    """Run what is missing below `folder`/runs, then write sweep.csv and sweep.png.

    Raises RunError when another process works in `folder`, or the cluster cannot be reached; Stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder):
            return _swept(plan, folder, room, screen, stop)
    except (InUse, ClusterError) as error:
        raise RunError(str(error)) from error


def _swept(plan: Plan, folder: Path, room: Room, screen: Screen, stop: Callable[[], bool]) -> Swept:
    root = folder / "runs"
    missing = sorted((one for one in plan.runs if not is_done(one, root)), key=lambda one: -one.work)
    errors = _run(missing, root, room, screen, stop, plan)
    table = read_table(plan.axes, plan.points, plan.runs, errors, root)
    csv, png = folder / "sweep.csv", folder / "sweep.png"
    write_csv(table, csv)
    seeds = len(plan.runs) // len(plan.points)
    drawn = draw(table, f"{plan.name}: mean and range over {seeds} seeds" if seeds > 1 else plan.name, png)
    if not drawn:
        png.unlink(missing_ok=True)
    return Swept(folder, table, csv, png if drawn else None)


def _run(
    missing: list[Planned], root: Path, room: Room, screen: Screen, stop: Callable[[], bool], plan: Plan
) -> dict[str, str]:
    """Why runs failed, by their names; the longest run begins first, so that no core waits long in the end."""
    errors = dict[str, str]()
    here = None if room.address else room.jobs or jobs_that_fit(plan.runs)
    many = f"{here} at a time" if here else f"on the cluster at {room.address}"
    screen.note(
        f"{len(plan.runs)} runs, {len(plan.runs) - len(missing)} of them there already; {many}, in {root.parent}"
    )
    if not missing:
        return errors
    with screen.counting("runs", len(missing), here or room.jobs or len(missing)) as count:

        def on_end(index: int, ended: Ended) -> None:
            name = missing[index].run.name
            if ended.error is not None:
                errors[name] = ended.error
            count(f"{name}: {ended.error or f'{ended.seconds:.1f} s'}")

        if here:
            run_side_by_side([one.run for one in missing], root, here, on_end, stop)
            return errors
        with Cluster.start(room.address):
            run_on_cluster(missing, root, room.jobs, on_end, stop)
    return errors
