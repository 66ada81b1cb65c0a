"""`equiran run --watch`: the page in a process of its own beside the run, for as long as the run lives.

As a program, `python -m sim.live.beside DIR`: it serves on the socket that it was given until its standard input ends.
"""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sim import beside
from sim.live.command import LOOPBACK
from sim.live.gate import LOOPBACK_NAMES
from sim.live.serving import Place, place, serve
from sim.priority import yield_to_edge

_LAST_MOMENT = 8.0
"""Seconds that the page has for the last news, once the run is over."""


@contextmanager
def watched(folder: Path, on_url: Callable[[str], None]) -> Iterator[None]:
    """While inside, the page of `folder` is served on loopback. Raises PortTaken."""
    where = place(LOOPBACK, 0)
    with where.listening:
        descriptor = where.listening.fileno()
        process = beside.start("sim.live.beside", [str(folder), str(descriptor)], [descriptor])
    on_url(where.url)
    try:
        yield
    finally:
        beside.end(process, _LAST_MOMENT)


def main() -> None:
    """The process beside the run."""
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    yield_to_edge()
    with socket.socket(fileno=descriptor) as listening:
        where = Place(listening, LOOPBACK_NAMES, None, "")
        serve(folder, where, beside.over)


if __name__ == "__main__":
    main()
