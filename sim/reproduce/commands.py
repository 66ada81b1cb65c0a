"""`equiran reproduce`: what it is asked and what it prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.caller import BadScenario, RunError
from sim.computing import computing
from sim.console import Interrupts, Screen, fail, say, say_json, say_table
from sim.exits import BAD_INPUT, FAILED
from sim.pool import Stopped
from sim.scenario import ScenarioErrors
from sim.suggest import did_you_mean

if TYPE_CHECKING:
    from sim.reproduce.experiment import Experiment
    from sim.reproduce.rows import Row
    from sim.reproduce.run import Made

NAMES = ("fig2", "fig3", "fig4", "free", "rivals", "radio", "compression", "table2", "table3")
"""Of the experiments in `sim.reproduce.run`, which nobody waits for who does not run them."""


def reproduce(
    what: Annotated[str, typer.Argument(metavar="|".join([*NAMES, "all"]), help="which experiment")],
    seeds: Annotated[int | None, typer.Option(min=1, help="seeds, from 0; default: as many as the docs have")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small runs; says nothing about the paper's numbers")] = False,
    out: Annotated[Path | None, typer.Option(help="where everything goes; default: runs/reproduce[-quick]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Run a paper's experiment again: its figures, and its numbers beside ours with spread and verdict.

    A run that is there and has the same scenario is not run again: after a change of the code, give another --out.

    Example: equiran reproduce fig2 --quick
    """
    with computing():
        from sim.reproduce.run import reproduce as reproduce_all
    folder = out or Path("runs") / ("reproduce-quick" if quick else "reproduce")
    with Interrupts().caught() as interrupts:
        try:
            chosen = _chosen(what, quick=quick)
            made = reproduce_all(chosen, seeds, quick=quick, out=folder, note=Screen(quiet).note, stop=interrupts.asked)
        except (BadScenario, ScenarioErrors) as error:
            fail(str(error))
            raise typer.Exit(BAD_INPUT) from error
        except RunError as error:
            fail(str(error))
            raise typer.Exit(FAILED) from error
        except Stopped as error:
            raise typer.Exit(interrupts.exit_code) from error
    say_json(made.told()) if as_json else _tell(made)


def _chosen(what: str, *, quick: bool) -> "list[Experiment]":
    """The experiments to run, whose data and parts are there. Raises BadScenario, ScenarioErrors."""
    from sim.reproduce.jobs import Size
    from sim.reproduce.run import EXPERIMENTS

    if what not in [*NAMES, "all"]:
        known = [*NAMES, "all"]
        raise BadScenario(
            f"no experiment {what!r} to reproduce; there are: {', '.join(known)}{did_you_mean(what, known)}"
        )
    chosen = [*EXPERIMENTS.values()] if what == "all" else [EXPERIMENTS[what]]
    for job in dict.fromkeys(job for one in chosen for job in one.jobs(Size(1, quick))):
        if found := job.problems():
            raise ScenarioErrors(found)
    return chosen


def _tell(made: "Made") -> None:
    for figure in dict.fromkeys(row.figure for row in made.rows):
        say_table([_shown(row) for row in made.rows if row.figure == figure], figure)
    for path in (made.csv, made.page, *made.pictures):
        say(str(path))


def _shown(row: "Row") -> dict[str, object]:
    keys = ("scenario", "metric", "reported", "ours", "spread", "verdict")
    return {key: getattr(row, key) for key in keys}
