"""`equiran sweep`: what it is asked and what it prints."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sim.computing import computing
from sim.console import Interrupts, Screen, fail, say, say_json, say_table
from sim.exits import BAD_INPUT, FAILED, errors
from sim.pool import Stopped

if TYPE_CHECKING:
    from sim.sweep.plan import Plan
    from sim.sweep.run import Swept


def sweep(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="such as scenarios/stress/conflict.yaml")],
    over: Annotated[list[str], typer.Option(metavar="a.b=1,2,3", help="values of one key; repeat it for a grid")] = [],  # noqa: B006 - typer reads the default
    seeds: Annotated[int, typer.Option(min=1, help="seeds for every point, from the scenario's own on")] = 5,
    sets: Annotated[list[str], typer.Option("--set", metavar="a.b=c", help="override one value; may be repeated")] = [],  # noqa: B006 - typer reads the default
    transport: Annotated[
        Literal["memory", "grpc", "ray"], typer.Option(help="of every run; digests are equal, and ray starts one each")
    ] = "memory",
    out: Annotated[Path | None, typer.Option(help="where everything goes; default: runs/sweep-NAME-KEYS")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="runs at a time; default: cores / threads of a run, if memory allows")
    ] = None,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="spread the runs over the Ray cluster at this address")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no notes")] = False,
) -> None:
    """Run the grid of all --over values and seeds side by side, into one table and one picture.

    Without --over it runs the scenario with several seeds: `equiran report` then gives their means and intervals.

    Values are the inside of a YAML list: commas part them, but not inside {..}, [..] or quotes. A run that is done
    is not repeated: after Ctrl-C or a kill, or with more values or seeds, the same command goes on.

    Example: equiran sweep scenarios/stress/conflict.yaml --over slots=8,16,32 --seeds 3

    Lists and mappings: --over 'edge.aggregator={kind: constant, weights: equal},{kind: mgda}'
    """
    with computing():
        from sim.sweep.plan import plan
        from sim.sweep.run import Room
        from sim.sweep.run import sweep as sweep_all
    screen = Screen(quiet)
    with errors(), Interrupts().caught() as interrupts:
        if address and transport == "ray":
            fail("--address (or RAY_ADDRESS) spreads runs over a cluster: --transport memory or grpc, not ray")
            raise typer.Exit(BAD_INPUT)
        planned = plan(scenario, over, seeds, sets, transport)
        if planned.compared:
            screen.note("note: compare is left out; sweep what its entries change")
        folder = out or _folder(planned)
        try:
            made = sweep_all(planned, folder, Room(jobs, address), screen, interrupts.asked)
        except Stopped as error:
            screen.note(f"stopped; the same command goes on with what is missing in {folder}")
            raise typer.Exit(interrupts.exit_code) from error
    say_json(made.told()) if as_json else _tell(made)
    if made.table.failed:
        raise typer.Exit(FAILED)


def _folder(planned: "Plan") -> Path:
    """The same for the same keys, so that more values or seeds go on where fewer ended."""
    keys = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", axis.key) for axis in planned.axes) or "seeds"
    return Path("runs") / f"sweep-{planned.name}-{keys}"[:120]


def _tell(made: "Swept") -> None:
    from sim.sweep.table import shown

    table = made.table
    spread = ": mean ± standard deviation over seeds" if len(table.rows) > len(table.points) else ""
    say_table(shown(table), f"{len(table.rows)} runs{spread}")
    for row in table.failed:
        fail(f"{table.points[row.point].title}, seed {row.seed}: {row.error}")
    for path in (made.csv, made.png):
        if path is not None:
            say(str(path))
