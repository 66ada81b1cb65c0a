"""`equiran diff`: what it is asked."""

from pathlib import Path
from typing import Annotated

import typer

from sim.console import say_json
from sim.exits import FAILED, errors
from sim.options import Json


def diff(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="another one")],
    as_json: Json = False,
) -> None:
    """Compare two runs: scenario, versions, digest, and where their numbers part for the first time, bit for bit.

    Exit code 0: equal, 1: different, 2: not to be compared. What no number depends on, such as the transport, is told
    and does not count. Runs under way are compared as far as they are.

    Example: equiran diff runs/quickstart-20261122-101500 runs/quickstart-20261122-103000
    """
    from sim.differences.runs import compared
    from sim.differences.telling import as_dict, tell

    with errors():
        found = compared(a, b)
        say_json(as_dict(found)) if as_json else tell(found)
    if found.differs:
        raise typer.Exit(FAILED)
