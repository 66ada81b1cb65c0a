"""`equiran serve` and `equiran join`: what they are asked and what they print."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.apart.common import LISTEN, LOOPBACK, Address, load_apart
from sim.caller import BadScenario, Watcher
from sim.computing import computing
from sim.console import Interrupts, Screen, Stopped, say, say_json
from sim.cross import Here
from sim.exits import errors
from sim.extras import require_package
from sim.options import Json, Quiet, ScenarioFile, Sets, run_folder
from sim.telling import ran

if TYPE_CHECKING:
    from sim.apart.edge import Served
    from sim.apart.users import Joined


def serve(
    scenario: Annotated[Path | None, typer.Argument(metavar="SCENARIO", help="the same as the users'")] = None,
    sets: Sets = [],  # noqa: B006 - typer reads the default
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="where users come; 0.0.0.0: all addresses; port 0: a free one")
    ] = LISTEN,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/NAME-YYYYmmdd-HHMMSS")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="go on with this run, which was stopped; instead of SCENARIO")
    ] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="for all users to come; default: `patience`")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="metrics for Prometheus; HOST: this machine alone")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Be the edge of a scenario: wait until all its users have joined, run all rounds, write the run directory.

    It needs no user's data. On Ctrl-C or SIGTERM the slot is finished, everybody leaves, and all keep their state.

    Example: equiran serve scenario.yaml --listen 0.0.0.0:7700
    """
    with computing():
        from sim.apart.edge import serve_on, serve_run
    with errors():
        what = _served(scenario, sets, listen, out, resume, wait)
        go = serve_on if resume else serve_run
        with _measured(metrics, what, Screen(quiet)) as watched:
            ran(lambda watcher: go(what, watched(watcher)), as_json=as_json, quiet=quiet)


def join(
    scenario: ScenarioFile,
    edge: Annotated[str, typer.Option(metavar="HOST:PORT", help="where `equiran serve` listens")],
    users: Annotated[str, typer.Option(metavar="A,B,..", help="users of the scenario that this process carries")],
    sets: Sets = [],  # noqa: B006 - typer reads the default
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where these users' state is kept, and taken from to go on")
    ] = None,
    wait: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="for the edge to be there; default: `patience`")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Be some users of a scenario, with their data, at an edge that `equiran serve` runs, until it says goodbye.

    Example: equiran join scenario.yaml --edge 192.0.2.7:7700 --users a,b --state state
    """
    with computing():
        from sim.apart.users import Joining, join_run
    screen, names = Screen(quiet), list(dict.fromkeys(name.strip() for name in users.split(",")))
    with errors(), Interrupts().caught() as interrupts:
        loaded = load_apart(scenario, sets, Here(edge=False, users=frozenset(names)))
        at = Address.of("--edge", edge)
        what = Joining(loaded, names, at, loaded.scenario.patience if wait is None else wait, state)
        try:
            with screen.watching(interrupts) as watcher:
                joined = join_run(what, watcher)
        except Stopped as error:
            screen.note(f"{', '.join(names)}: left {at}")
            raise typer.Exit(interrupts.exit_code) from error
        _tell(joined, as_json=as_json)


@contextmanager
def _measured(metrics: str | None, what: "Served", screen: Screen) -> Iterator[Callable[[Watcher], Watcher]]:
    """While inside, Prometheus can ask; gives what has the watcher of the run tell it. Raises BadScenario, RunError."""
    if metrics is None:
        yield lambda watcher: watcher
        return
    require_package("--metrics", "prometheus_client", "prometheus")
    from sim.apart.metrics import Metrics, published

    at = Address.of("--metrics", metrics if ":" in metrics else f"{LOOPBACK[0]}:{metrics}")
    counted = Metrics([user.name for user in what.loaded.scenario.users])
    with published(counted, at) as url:
        screen.note(f"metrics: {url}")
        if at.host not in LOOPBACK:
            screen.note("note: whoever reaches this address may read the metrics")
        yield counted.told_by


def _served(
    scenario: Path | None, sets: list[str], listen: str, out: Path | None, resume: Path | None, wait: float | None
) -> "Served":
    """Raises BadScenario, ScenarioErrors."""
    from sim.apart.edge import Served

    file = scenario or (resume and _file_of(resume))
    if file is None or (resume and (scenario or sets or out)):
        raise BadScenario("give a SCENARIO, or --resume DIR alone: the run that goes on has its scenario and directory")
    at = Address.of("--listen", listen)
    loaded = load_apart(file, sets, Here(users=frozenset()))
    patience = loaded.scenario.patience if wait is None else wait
    return Served(loaded, at, resume or out or run_folder(loaded.scenario.name), patience)


def _file_of(folder: Path) -> Path:
    """The scenario of a served run. Raises BadScenario."""
    from sim.served import was_served

    if not was_served(folder):
        raise BadScenario(f"--resume {folder}: no run of `equiran serve`; others go on with: equiran resume {folder}")
    return folder / "scenario.yaml"


def _tell(joined: "Joined", *, as_json: bool) -> None:
    if as_json:
        say_json({**joined._asdict(), "status": joined.status})
        return
    said = f"{', '.join(joined.users)}: goodbye after {joined.rounds} of {joined.rounds_planned} rounds"
    again = "; the edge stopped, and `equiran serve --resume` goes on" if joined.status == "stopped" else ""
    say(said + again)
