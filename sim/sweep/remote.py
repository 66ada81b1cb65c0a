"""Runs of a sweep on a cluster: a scenario's text goes to some machine, the run's folder comes back."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import psutil

from sim.allocator import keep_buffers, keep_objects
from sim.caller import Watcher
from sim.cluster_tasks import Lost, Order, each
from sim.effective import effective
from sim.pool import Ended, Stopped, ended_as
from sim.runner import run
from sim.scenario import ScenarioErrors, load
from sim.sweep.plan import Planned

_RUN, _MINE = "run", "equiran-sweep-"


def run_there(scenario: bytes) -> tuple[bytes, bytes]:
    """On a machine of the cluster, the run of this effective scenario: how it ended, as JSON; its folder, as tar."""
    keep_buffers()
    keep_objects()
    _clear()
    with TemporaryDirectory(prefix=f"{_MINE}{os.getpid()}-") as folder:
        file, out = Path(folder) / "scenario.yaml", Path(folder) / _RUN
        file.write_bytes(scenario)
        ended = ended_as(lambda: _run(file, out))
        return json.dumps(ended._asdict()).encode(), _packed(out)


def _clear() -> None:
    """Puts away what killed processes left behind on this machine."""
    for left in Path(gettempdir()).glob(f"{_MINE}*"):
        pid = left.name.removeprefix(_MINE).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _run(file: Path, out: Path) -> tuple[str, float]:
    try:
        result = run(load(file), out, None, Watcher())
    except ScenarioErrors as error:
        raise ValueError("; ".join(error.errors)) from error
    return result.status, float(result.summary["wall_seconds"])


def _packed(folder: Path) -> bytes:
    """A tar file of the folder; empty where there is none."""
    data = io.BytesIO()
    if folder.exists():
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.add(folder, arcname=_RUN)
    return data.getvalue()


def _unpack(data: bytes, folder: Path) -> None:
    """The folder as it was over there, in one step: half a folder is never seen."""
    if folder.exists():
        shutil.rmtree(folder)
    if not data:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".coming-", dir=folder.parent) as coming:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(coming, filter="data")
        (Path(coming) / _RUN).rename(folder)


def run_on_cluster(
    runs: Sequence[Planned],
    root: Path,
    at_once: int | None,
    on_end: Callable[[int, Ended], None],
    stop: Callable[[], bool],
) -> None:
    """Every run on the cluster that we are in, which gives each as many cores as it has threads, into `root`/its name.

    at_once: at most so many at a time. on_end: told the run's index. Raises Stopped when `stop` says so; what is
    under way is then given up.
    """
    orders = [Order(effective(one.scenario).encode(), one.threads) for one in runs]
    for index, came in each(run_there, orders, at_once, stop):
        if isinstance(came, Lost):
            on_end(index, Ended(0.0, came.why))
            continue
        _unpack(came.body, root / runs[index].run.name)
        on_end(index, Ended(**json.loads(came.head)))
    if stop():
        raise Stopped
