"""`equiran track`, and what `equiran run` has of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.caller import BadScenario, RunError
from sim.console import Screen, say, say_json
from sim.exits import errors
from sim.extras import require_package
from sim.options import Json, Quiet
from sim.report.records import is_training

if TYPE_CHECKING:
    from sim.tracking.following import Where

TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="event files for TensorBoard, in the folder `tensorboard` of each run")
]
Mlflow = Annotated[
    str | None, typer.Option("--mlflow", metavar="URI", help="runs at an MLflow server, such as http://127.0.0.1:5000")
]


def track(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="run directories, over or under way")],
    tensorboard: TensorBoard = False,
    mlflow: Mlflow = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell TensorBoard or MLflow of runs, from their records; of one under way, until it is over.

    Example: equiran track runs/quickstart --tensorboard
    """
    with errors():
        where = trackers(tensorboard, mlflow)
        if where is None:
            raise BadScenario("whom to tell? give --tensorboard or --mlflow URI")
        told = [str(part) for folder in runs for part in _told(folder, where, Screen(quiet))]
        say_json({"runs": told}) if as_json else say("\n".join(told))


def trackers(tensorboard: bool, mlflow: str | None) -> "Where | None":
    """Who is told; None for nobody. Raises BadScenario where a package is missing."""
    if not tensorboard and mlflow is None:
        return None
    from sim.tracking.following import Where

    if tensorboard:
        require_package("--tensorboard", "tensorboard", "tensorboard")
    if mlflow is not None:
        require_package("--mlflow", "mlflow", "mlflow")
    return Where(tensorboard, mlflow)


def _told(folder: Path, where: "Where", screen: Screen) -> list[Path]:
    """Raises RunError, BadScenario, UnreadableRun."""
    from sim.tracking.following import follow, goes_on
    from sim.tracking.tracker import TrackingFailed

    if is_training(folder):
        raise BadScenario(f"{folder} is a trainer by itself: it has no rounds to tell of, see its progress.parquet")
    if goes_on(folder):
        screen.note(f"{folder}: under way; it is followed until it is over")
    try:
        found = follow(folder, where, lambda: goes_on(folder))
    except TrackingFailed as error:
        raise RunError(str(error)) from error
    if not found:
        raise BadScenario(f"{folder} is not a run: manifest.json is missing; give a directory that `equiran run` wrote")
    return found
