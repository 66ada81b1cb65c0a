"""Options and defaults that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="a scenario, such as scenarios/quickstart.yaml")]
Sets = Annotated[list[str], typer.Option("--set", metavar="a.b=c", help="override one value; may be repeated")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]
Watched = Annotated[bool, typer.Option("--watch", help="serve its live page meanwhile, on this machine")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress, no notes")]


def run_folder(name: str) -> Path:
    """Where a run goes for which nobody gave a directory."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
