"""`equiran run --tensorboard --mlflow URI`: trackers in a process of their own, for as long as the run lives.

As a program, `python -m sim.tracking.beside DIR WHERE`: it follows the run until that is over.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sim import beside
from sim.priority import yield_to_edge
from sim.report.files import UnreadableRun
from sim.tracking.following import Where, follow
from sim.tracking.tracker import TrackingFailed

_LAST_MOMENT = 60.0
"""Seconds that trackers have for what is left to tell, once the run is over."""


@contextmanager
def tracked(folder: Path, where: Where, on_note: Callable[[str], None]) -> Iterator[None]:
    """While inside, trackers are told of the run in `folder`; if they could not, that is noted, and no more.

    Nothing is told of a run that is there already: the new one will be refused.
    """
    if (folder / "manifest.json").exists():
        yield
        return
    process = beside.start("sim.tracking.beside", [str(folder), json.dumps(asdict(where))])
    try:
        yield
    finally:
        if not beside.end(process, _LAST_MOMENT):
            on_note(f"note: trackers were not told of all of it; once more: equiran track {folder} {where}")


def main() -> None:
    """The process beside the run."""
    folder, where = Path(sys.argv[1]), Where(**json.loads(sys.argv[2]))
    yield_to_edge()
    try:
        follow(folder, where, lambda: not beside.over())
    except (UnreadableRun, TrackingFailed, OSError) as error:
        sys.stderr.write(f"tracking: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
