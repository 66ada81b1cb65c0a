"""`equiran bench`: what each benchmark is asked and what it prints."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_server.judge import RunFailed
from sim.bench import power as powers
from sim.bench import power_beside as besides
from sim.bench import power_complexity as complexities
from sim.bench import scale as scales
from sim.bench import slot as slots_
from sim.bench import start as starts
from sim.bench import sweep as sweeps
from sim.bench import telling
from sim.bench.power_share import PolicyName, policy_share
from sim.bench.power_turns import Effort
from sim.bench.process import WorkerFailed
from sim.caller import PartError
from sim.console import Screen, fail, say_json
from sim.json_files import write_json
from sim.overrides import USER_CAP
from sim.placement import Hosts
from sim.suggest import did_you_mean

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]
Tell = Callable[[dict[str, Any]], None]


def _place(out: Path | None) -> Path | None:
    """The file to be, whose folder there is before anything is measured."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(f"--out {out}: {error.strerror}") from error
    if out is not None and out.is_dir():
        raise _refused(f"--out {out}: this is a folder, give a file")
    return out


Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", callback=_place, help="keep the JSON object in this file, too")
]

_QUICK_ROUNDS = 8
_HOSTS = "auto|per_user|N"
_MOST_HOSTS = 64
_POWER = Effort()
_SLOT = slots_.Load(users=2, batch=25, encoder="lenet", slots=1, hosts="auto")
_COMPLEXITY = Effort(blocks=10, seconds=0.03)


@app.command()
def slot(
    users: Annotated[int, typer.Option(min=1, max=64, help="users, each on a stream of its own")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="images per user and slot")] = 25,
    encoder: Annotated[slots_.Encoder, typer.Option(help="the shared model")] = "lenet",
    slots: Annotated[int, typer.Option(min=1, help="slots to measure of each kind")] = 500,
    hosts: Annotated[str, typer.Option(metavar=_HOSTS, help="processes for the users, as in a scenario")] = "auto",
    policy: Annotated[PolicyName | None, typer.Option(help="what a radio with this power policy adds")] = None,
    peer_style: Annotated[
        bool, typer.Option("--peer-style", help="also: an encoder copy per user, and unary calls that each waits for")
    ] = False,
    mtls: Annotated[
        bool, typer.Option("--mtls", help="what TLS with certificates on both sides adds, in turns")
    ] = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Measure a slot over gRPC beside the same maths in one process and a bare echo, turn by turn.

    Example: equiran bench slot --users 8 --batch 25 --encoder lenet
    """
    load = slots_.Load(users, batch, encoder, slots, _hosts(hosts), peer_style, mtls)
    try:
        found = slots_.report(load, slots_.measure(load))
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    if policy is not None:
        found["power"] = policy_share(policy, users, slots_.message_sizes(load), found["wire_ms"])
    _tell(found, telling.slot, as_json, out)


def _tell(found: dict[str, Any], tell: Tell, as_json: bool, out: Path | None) -> None:
    if out is not None:
        write_json(out, found, in_order=True)
    say_json(found) if as_json else tell(found)


def _hosts(said: str) -> Hosts:
    match said:
        case "auto" | "per_user":
            return said
        case number if number.isdecimal() and int(number) > 0:
            return int(number)
    raise _refused(f"--hosts {said}: give auto, per_user or a number of processes")


@app.command()
def scale(
    users: Annotated[str, typer.Option(metavar="K,K,..", help="users, a row for each number")] = "2,32,256,1000",
    hosts: Annotated[str, typer.Option(metavar=_HOSTS, help="processes for the users, as in a scenario")] = "auto",
    encoder: Annotated[
        slots_.Encoder, typer.Option(help="linear: kernel regression; else Rainbow over bundled digits")
    ] = "linear",
    aggregator: Annotated[str, typer.Option(metavar="NAME", help="the edge's rule: docs/aggregators.md")] = "owo_fmtl",
    slots: Annotated[int, typer.Option(min=1, help="slots to measure of each kind")] = 50,
    trunk: Annotated[bool, typer.Option("--trunk", help="the users of a host share a stream")] = False,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure a slot as users become many, beside a bare echo turn by turn, and the memory of edge and hosts.

    Example: equiran bench scale --users 2,32,256 --encoder lenet --aggregator mgda --slots 10
    """
    rule, note = _aggregator(aggregator), Screen(quiet).note
    loads = [_bearable(scales.Load(count, _hosts(hosts), encoder, rule, slots, trunk)) for count in _counts(users)]
    try:
        found = scales.report([(load, _measured(load, note)) for load in loads])
    except PartError as error:
        raise _refused(f"--aggregator {aggregator}: {error}") from error
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    _tell(found, telling.scale, as_json, out)


def _counts(said: str) -> list[int]:
    counts = [int(number) if number.strip().isdecimal() else 0 for number in said.split(",")]
    if min(counts) < 1 or max(counts) > USER_CAP:
        raise _refused(f"--users {said}: give numbers of users, each from 1 to {USER_CAP}, such as 2,32,256")
    return counts


def _aggregator(said: str) -> str:
    if said not in scales.AGGREGATORS:
        known = ", ".join(scales.AGGREGATORS) + did_you_mean(said, scales.AGGREGATORS)
        raise _refused(f"--aggregator {said}: there is no such rule; there are: {known}")
    return said


def _bearable(load: scales.Load) -> scales.Load:
    if len(load.placed) > _MOST_HOSTS:
        raise _refused(
            f"--hosts {load.hosts}: {len(load.placed)} processes for {load.users} users, at most {_MOST_HOSTS}"
        )
    return load


def _refused(why: str) -> typer.Exit:
    fail(why)
    return typer.Exit(2)


def _measured(load: scales.Load, note: Callable[[str], None]) -> scales.Measured:
    design = scales.design_of(load)
    where = "1 host" if len(load.placed) == 1 else f"{len(load.placed)} hosts"
    note(f"{load.aggregator}, {load.users} users on {where}: {design.plan.rounds} blocks of {design.plan.slots} slots")
    return scales.measure(load, design)


@app.command()
def sweep(
    quick: Annotated[bool, typer.Option("--quick", help=f"{_QUICK_ROUNDS} rounds instead of {sweeps.ROUNDS}")] = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Measure the whole of Fig. 2: every m, alpha and environment, one seed, in memory, one run per core.

    Example: equiran bench sweep --quick
    """
    rounds = _QUICK_ROUNDS if quick else sweeps.ROUNDS
    found = sweeps.report(*sweeps.measure(rounds), rounds)
    _tell(found, telling.sweep, as_json, out)


@app.command()
def power(
    complexity: Annotated[
        bool, typer.Option("--complexity", help="instead: training, growth with N and B, masks and memory, row by row")
    ] = False,
    beside_slots: Annotated[
        bool, typer.Option("--beside-slots", help="instead: the rates of slots and of a trainer, alone and together")
    ] = False,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure a step of fourteen power tasks beside a loop over them, and inference beside solvers, on one thread.

    Example: equiran bench power --complexity
    """
    if complexity and beside_slots:
        raise _refused("--complexity and --beside-slots: give one of them")
    if beside_slots:
        found = _beside_slots()
        _tell(found, telling.beside_slots, as_json, out)
    elif complexity:
        found = complexities.report(_COMPLEXITY, Screen(quiet).note)
        _tell(found, telling.complexity, as_json, out)
    else:
        found = powers.report(powers.measure(_POWER))
        _tell(found, telling.power, as_json, out)


def _beside_slots() -> dict[str, Any]:
    try:
        return besides.report(_SLOT, besides.Effort())
    except (WorkerFailed, RunFailed) as error:
        fail(str(error))
        raise typer.Exit(1) from error


@app.command()
def start(
    turns: Annotated[int, typer.Option(min=1, help="turns of each kind to measure")] = 5,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure the cold start of a run to its first slot, in memory and on Ray, beside importing torch and Ray's start.

    Example: equiran bench start --turns 3
    """
    try:
        found = starts.report(starts.measure(turns, Screen(quiet).note))
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    _tell(found, telling.start, as_json, out)
