"""The `equiran` command. Exit codes: 0 done, 1 the run failed, 2 bad input, 130/143 interrupted."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from sim import data
from sim import report as reports
from sim.advice import advice
from sim.allocator import keep_buffers
from sim.bench.commands import app as bench_app
from sim.build import check
from sim.console import Interrupts, Screen, fail, say, say_json, say_table
from sim.estimate import estimate
from sim.power_recorder import PowerResult
from sim.power_run import train_power as run_power
from sim.power_scenario import load_power
from sim.recorder import Result
from sim.reproduce.commands import reproduce
from sim.runner import BadScenario, RunError
from sim.runner import run as run_scenario
from sim.scenario import ScenarioErrors, effective, json_schema, load

FAILED, BAD_INPUT = 1, 2
_MANY = 0.5
"""Share of utilities out of range that is worth a note; far more than the 3 to 15 % of a run that learns."""


def _version(asked: bool) -> None:
    if asked:
        say(f"equiran {version('equiran')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fair split learning at the radio edge, live over gRPC. Start with: equiran run scenarios/quickstart.yaml",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is here, and how to fetch the rest.")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.command()(reproduce)


@app.callback()
def top(
    _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")] = False,
) -> None:
    """Options before any command."""


ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="a scenario, such as scenarios/quickstart.yaml")]
Sets = Annotated[list[str], typer.Option("--set", metavar="a.b=c", help="override one value; may be repeated")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress, no notes")]


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
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario and write its run directory.

    Example: equiran run scenarios/quickstart.yaml --set rounds=12 --transport memory
    """
    with _errors():
        loaded = load(scenario, sets, seed, transport)
        folder = out or Path("runs") / f"{loaded.scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
        screen = Screen(quiet)
        with Interrupts().caught() as interrupts:
            with screen.watching(interrupts) as watcher:
                result = run_scenario(loaded, folder, address, watcher)
            _warn(result, screen)
            _tell(result, as_json)
            if result.status == "stopped":
                raise typer.Exit(interrupts.exit_code)


@app.command()
def train_power(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="such as scenarios/power/best.yaml")],
    sets: Sets = [],  # noqa: B006 - typer reads the default
    seed: Annotated[int | None, typer.Option(help="seed instead of the scenario's")] = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/NAME-YYYYmmdd-HHMMSS")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network for power allocation by itself, publish its policy and score it on fresh channels.

    Example: equiran train-power scenarios/power/best.yaml --set edge.server_tasks.0.stages=[500,500]
    """
    with _errors():
        loaded = load_power(scenario, sets, seed)
        folder = out or Path("runs") / f"{loaded.scenario.name}-{datetime.now():%Y%m%d-%H%M%S}"
        with Interrupts().caught() as interrupts:
            with Screen(quiet).training(interrupts) as watcher:
                result = run_power(loaded, folder, watcher)
            _tell_power(result, as_json)
            if result.status == "stopped":
                raise typer.Exit(interrupts.exit_code)


@app.command()
def validate(scenario: ScenarioFile, sets: Sets = [], as_json: Json = False) -> None:  # noqa: B006
    """Check a scenario, print it as it would run, and estimate memory and bytes per slot.

    Example: equiran validate scenarios/quickstart.yaml --set users.attacked.task.batch=50
    """
    with _errors():
        loaded = load(scenario, sets)
        if found := check(loaded):
            raise ScenarioErrors(found)
        needs, notes = estimate(loaded.scenario), advice(loaded.scenario)
        if as_json:
            tree = loaded.scenario.model_dump(mode="json", by_alias=True)
            say_json({"valid": True, "scenario": tree, "estimate": needs, "notes": notes})
            return
        say(effective(loaded.scenario).rstrip())
        for name, value in needs.items():
            say(f"# {name.replace('_', ' ')}: {value}")
        for note in notes:
            Screen(quiet=False).note(f"note: {note}")


@app.command()
def schema(as_json: Json = False) -> None:  # noqa: ARG001 - it is JSON anyway
    """Print the JSON Schema of scenarios, for editors."""
    say_json(json_schema())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="run directories; several are compared")],
    as_json: Json = False,
) -> None:
    """Make report.html and pictures from run directories, in the first of them.

    Example: equiran report runs/quickstart
    """
    with _errors():
        made = reports.build(runs)
        if as_json:
            table = [dict(row) for row in reports.table(runs)]
            say_json({"html": str(made.html), "pngs": [str(png) for png in made.pngs], "table": table})
        else:
            say(str(made.html))


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """Show the data sets that tasks can name."""
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
    with _errors():
        if name != "mnist":
            raise BadScenario(f"no data set {name!r} to fetch; there is: mnist")
        folder = str(data.fetch_mnist(source, Screen(quiet).note))
        say_json({"name": name, "path": folder}) if as_json else say(folder)


def main() -> None:
    """The command, once everything is imported."""
    torch.set_num_threads(1)
    keep_buffers()
    sys.path.append(os.getcwd())
    app()


@contextmanager
def _errors() -> Iterator[None]:
    """One line, or one line per error of a scenario, and the contract's exit code."""
    try:
        yield
    except (ScenarioErrors, BadScenario, reports.UnreadableRun) as error:
        fail(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except (RunError, data.FetchError, OSError) as error:
        fail(str(error))
        raise typer.Exit(FAILED) from error


def _warn(result: Result, screen: Screen) -> None:
    """What the numbers do not show: users left out of slots, utilities that the dual box was not made for."""
    for one in (result, *result.compared):
        if rejected := one.summary["rejected"]:
            screen.note(
                f"note: {one.name}: {rejected} slots of users were rejected; {one.folder}/events.jsonl names them"
            )
        share = one.summary["out_of_range_share"]
        if share is not None and share > _MANY:
            screen.note(f"note: {one.name}: {share:.0%} of the utilities were outside [u_min, u_max]")


def _tell(result: Result, as_json: bool) -> None:
    if as_json:
        say_json(_as_dict(result))
        return
    say_table([_row(one) for one in (result, *result.compared)], f"{result.name}: {result.status}")
    say(str(result.folder))


def _tell_power(result: PowerResult, as_json: bool) -> None:
    told = {"name": result.name, "dir": str(result.folder), "status": result.status, "digest": result.digest}
    if as_json:
        say_json({**told, "steps": result.steps, **(result.power or {})})
        return
    if result.power is None:
        say(f"{result.name}: {result.status} after {result.steps} steps")
    else:
        say_table([_power_row(task) for task in result.power["tasks"]], f"{result.name}: {result.status}")
    say(str(result.folder))


def _as_dict(result: Result) -> dict[str, Any]:
    content = {"name": result.name, "dir": str(result.folder), "status": result.status, "digest": result.digest}
    compared = {"compare": [_as_dict(other) for other in result.compared]} if result.compared else {}
    return {**result.summary, **content, **compared}


def _power_row(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": f"{task['problem']}/{task['n']}",
        "mean gap": task["gap_mean"],
        "p99": task["gap_p99"],
        "rate": task["rate"],
        "% of opt.": task["percent_of_optimum"],
        "violation": task["violation_mean"],
        "max": task["violation_max"],
    }


def _row(result: Result) -> dict[str, Any]:
    summary = result.summary
    return {
        "run": result.name,
        "fairness": summary["fairness_mean"],
        "val. fairness": summary["val_fairness_mean"],
        "worst u": summary["worst_utility"],
        "Jain": summary["jain"],
        "sum |w|": summary["sum_w_mean"],
        "slots/s": summary["slots_per_second"],
        "digest": (result.digest or "-")[:8],
    }
