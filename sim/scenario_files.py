"""`equiran scenarios`: those that come with EquiRAN, written where they can be run and changed."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from sim.caller import BadScenario
from sim.console import say, say_json
from sim.exits import errors
from sim.options import Json
from sim.shipped import SCENARIOS, WRITTEN


def write(to: Path) -> list[Path]:
    """Writes all of them, and the data that they name, below `to`. Raises BadScenario where one of them is there."""
    names = sorted(path.relative_to(SCENARIOS) for path in SCENARIOS.rglob("*") if path.is_file())
    for name in names:
        if (to / name).exists():
            raise BadScenario(
                f"{to / name} is there already, and nothing was written: give another folder with --to DIR"
            )
    try:
        for name in names:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SCENARIOS / name, to / name)
    except OSError as error:
        raise BadScenario(f"--to {to}: {error.strerror}") from error
    return [to / name for name in names]


def scenarios(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="where they go; made if it is not there")] = WRITTEN,
    as_json: Json = False,
) -> None:
    """Write the scenarios that come with EquiRAN into a folder, to run them and to change them.

    Example: equiran scenarios --to scenarios
    """
    with errors():
        written = write(to)
        if as_json:
            say_json({"folder": str(to), "files": [str(path) for path in written]})
            return
        for path in written:
            say(str(path))
        say(f"next: equiran run {to / 'quickstart.yaml'}")
