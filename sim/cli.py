"""The `equiran` command. Exit codes: 0 done, 1 the run failed, 2 bad input, 130/143 interrupted."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.apart.commands import join, serve
from sim.bench.group import BenchGroup
from sim.caller import BadScenario, RunError
from sim.certs import certs
from sim.computing import computing
from sim.console import Interrupts, Screen, say, say_json
from sim.differences.commands import diff
from sim.doctor.commands import doctor
from sim.exits import errors
from sim.live.command import watch
from sim.new import HELP as NEW_HELP
from sim.new import new
from sim.options import Json, Quiet, ScenarioFile, Sets, Watched, run_folder
from sim.reproduce.commands import reproduce
from sim.scenario import load
from sim.scenario_files import scenarios
from sim.suggest import did_you_mean
from sim.sweep.commands import sweep
from sim.telling import ran, tell_power
from sim.tracking.commands import Mlflow, TensorBoard, track, trackers

if TYPE_CHECKING:
    from sim.power_recorder import PowerResult
    from sim.power_run import PowerWatcher
    from sim.tracking.following import Where


def _version(asked: bool) -> None:
    if asked:
        say(f"equiran {version('equiran')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fair split learning at the radio edge, live over gRPC. Start with: equiran run scenarios/quickstart.yaml. "
    "Where there is no folder scenarios, equiran scenarios writes it.",
)
bench_app = typer.Typer(
    cls=BenchGroup, no_args_is_help=True, help="Benchmarks, each beside its own floor in the same run."
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is here, and how to fetch the rest.")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


@app.callback()
def top(
    _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")] = False,
) -> None:
    """Options before any command."""


@app.command()
def run(
    scenario: ScenarioFile,
    sets: Sets = [],  # noqa: B006 - typer reads the default
    transport: Annotated[str | None, typer.Option(help="memory, grpc or ray; default: the scenario's")] = None,
    address: Annotated[
        str | None, typer.Option(help="a Ray cluster to run on; default: RAY_ADDRESS, else one here")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/NAME-YYYYmmdd-HHMMSS")] = None,
    seed: Annotated[int | None, typer.Option(help="seed instead of the scenario's")] = None,
    stop_after: Annotated[
        int | None, typer.Option(min=1, metavar="ROUNDS", help="end cleanly after so many rounds; `resume` goes on")
    ] = None,
    attendance: Annotated[
        Path | None, typer.Option(metavar="DIR", help="go on without the users whom the run there went on without")
    ] = None,
    watched: Watched = False,
    tensorboard: TensorBoard = False,
    mlflow: Mlflow = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario and write its run directory.

    Example: equiran run scenarios/quickstart.yaml --set rounds=12 --transport memory
    """
    with errors():
        loaded = load(scenario, sets, seed, transport)
        with computing():
            from sim.runner import run as run_scenario
        folder = out or run_folder(loaded.scenario.name)
        where = trackers(tensorboard, mlflow)
        with _page_of(folder) if watched else nullcontext(), _told(folder, where) if where else nullcontext():
            ran(
                lambda watcher: run_scenario(loaded, folder, address, watcher, stop_after, attendance),
                as_json=as_json,
                quiet=quiet,
            )


@app.command()
def train_power(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="such as scenarios/power/best.yaml")],
    sets: Sets = [],  # noqa: B006 - typer reads the default
    seed: Annotated[int | None, typer.Option(help="seed instead of the scenario's")] = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/NAME-YYYYmmdd-HHMMSS")] = None,
    stop_after: Annotated[
        int | None, typer.Option(min=1, metavar="STEPS", help="end cleanly after so many steps; `resume` goes on")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network for power allocation by itself, publish its policy and score it on fresh channels.

    Example: equiran train-power scenarios/power/best.yaml --set edge.server_tasks.0.stages=[500,500]
    """
    from sim.power_scenario import load_power

    with errors():
        loaded = load_power(scenario, sets, seed)
        with computing():
            from sim.power_run import train_power as run_power
        folder = out or run_folder(loaded.scenario.name)
        _trained(lambda watcher: run_power(loaded, folder, watcher, stop_after), as_json, quiet)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the directory of a run, or of a train-power run")],
    transport: Annotated[str | None, typer.Option(help="memory, grpc or ray; default: as before")] = None,
    address: Annotated[
        str | None, typer.Option(help="a Ray cluster to go on with; default: RAY_ADDRESS, else one here")
    ] = None,
    watched: Watched = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a stopped or killed run, to the same bits as if it had never ended.

    Example: equiran resume runs/quickstart-20261122-101500
    """
    with computing():
        from sim.power_resume import resume_power
        from sim.resume import resume_run, trained_alone
    with errors():
        if not trained_alone(folder):
            with _page_of(folder) if watched else nullcontext():
                ran(lambda watcher: resume_run(folder, transport, address, watcher), as_json=as_json, quiet=quiet)
        elif transport or address or watched:
            raise BadScenario(f"{folder} is a trainer by itself: it has no transport, no cluster and no live page")
        else:
            _trained(lambda watcher: resume_power(folder, watcher), as_json, quiet)


@app.command()
def validate(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="SCENARIO...", help="scenarios, with slots or of a trainer")
    ],
    sets: Sets = [],  # noqa: B006 - typer reads the default
    as_json: Json = False,
) -> None:
    """Check scenarios, print them as they would run, and estimate what they need.

    Example: equiran validate scenarios/quickstart.yaml --set users.attacked.task.batch=50
    """
    with computing():
        from sim.validation import tell_valid, valid
    with errors():
        found = valid(scenarios, sets)
        if as_json:
            told = [one.as_dict() for one in found]
            say_json(told[0] if len(told) == 1 else {"valid": True, "scenarios": told})
            return
        for one in found:
            tell_valid(one, alone=len(found) == 1)


@app.command()
def schema(as_json: Json = False) -> None:  # noqa: ARG001 - it is JSON anyway
    """Print the JSON Schema of scenarios, for editors.

    Example: equiran schema > scenario.schema.json
    """
    from sim.schema import json_schema

    say_json(json_schema())


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="run directories, or a sweep's; several are compared")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="where page and pictures go; default: the first DIR")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write the tables there, too: CSV and Parquet")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make report.html and pictures from run directories, in the first of them or in --out.

    Runs that differ in their seeds alone are one group; groups are compared with the first one, seed by seed.

    Example: equiran report runs/quickstart runs/quickstart-seed-8 --out seeds --export tables
    """
    from sim.report import build as reports

    with errors():
        for option, folder in (("--out", out), ("--export", export)):
            if folder and folder.is_file():
                raise BadScenario(f"{option} {folder}: this is a file, give a folder")
        made = reports.build(runs, export, out)
        if as_json:
            files = {"pngs": [*map(str, made.pngs)], "exports": [*map(str, made.exports)]}
            table = [asdict(row) for row in made.table]
            say_json({"html": str(made.html), **files, "table": table, "comparison": made.comparison})
            return
        for path in (made.html, *made.exports):
            say(str(path))


app.command()(watch)
app.command()(diff)
app.command()(sweep)
app.command()(track)
app.command()(reproduce)
app.command()(scenarios)
app.command(help=NEW_HELP)(new)
app.command()(serve)
app.command()(join)
app.command()(certs)
app.command()(doctor)


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """Show the data sets that tasks can name.

    Example: equiran data list --json
    """
    from sim import data

    rows = [{**row._asdict(), "path": str(row.path)} for row in data.list_data()]
    if as_json:
        say_json({"data": rows})
        return
    for row in rows:
        state = f"here, {row['bytes'] / 1e6:.1f} MB: {row['path']}" if row["here"] else f"not here: {row['how']}"
        say(f"{row['name']:8} {state}")


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="mnist")],
    source: Annotated[str | None, typer.Option("--from", help="a folder or archive that holds the files")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a data set, verify it by SHA-256 and keep it in the cache.

    Example: equiran data fetch mnist --from ~/Downloads/mnist.zip
    """
    from sim import data

    with errors():
        if name != "mnist":
            raise BadScenario(f"no data set {name!r} to fetch; there is: mnist{did_you_mean(name, ['mnist'])}")
        folder = str(data.fetch_mnist(source, Screen(quiet).note))
        say_json({"name": name, "path": folder}) if as_json else say(folder)


@contextmanager
def _page_of(folder: Path) -> Iterator[None]:
    """The live page of a run while it lives. Raises RunError."""
    from sim.live import beside
    from sim.live.serving import PortTaken

    try:
        with beside.watched(folder, lambda url: Screen(quiet=False).note(f"live page: {url}")):
            yield
    except PortTaken as error:
        raise RunError(str(error)) from error


def _told(folder: Path, where: "Where") -> AbstractContextManager[None]:
    """Trackers are told of a run while it lives."""
    from sim.tracking.beside import tracked

    return tracked(folder, where, Screen(quiet=False).note)


def _trained(train: "Callable[[PowerWatcher], PowerResult]", as_json: bool, quiet: bool) -> None:
    """A power trainer under the eyes of whoever called it. Raises typer.Exit when it was interrupted."""
    with Interrupts().caught() as interrupts:
        with Screen(quiet).training(interrupts) as watcher:
            result = train(watcher)
        tell_power(result, as_json=as_json)
        if result.status == "stopped" and interrupts.asked():
            raise typer.Exit(interrupts.exit_code)


def main() -> None:
    """The command, once everything is imported."""
    sys.path.append(os.getcwd())
    app()
