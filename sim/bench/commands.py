"""`equiran bench`: what each benchmark is asked and what it prints."""

from typing import Annotated, Any

import typer

from sim.bench import slot as slots_
from sim.bench import sweep as sweeps
from sim.bench.process import WorkerFailed
from sim.console import fail, say, say_json, say_table
from sim.placement import Hosts

app = typer.Typer(no_args_is_help=True, help="Benchmarks, each beside its own floor in the same run.")

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]

_QUICK_ROUNDS = 8
_HOSTS = "auto|per_user|N"


@app.command()
def slot(
    users: Annotated[int, typer.Option(min=1, max=64, help="users, each on a stream of its own")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="images per user and slot")] = 25,
    encoder: Annotated[slots_.Encoder, typer.Option(help="the shared model")] = "lenet",
    slots: Annotated[int, typer.Option(min=1, help="slots to measure of each kind")] = 500,
    hosts: Annotated[str, typer.Option(metavar=_HOSTS, help="processes for the users, as in a scenario")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure a slot over gRPC beside the same maths in one process and a bare echo, turn by turn.

    Example: equiran bench slot --users 8 --batch 25 --encoder lenet
    """
    load = slots_.Load(users, batch, encoder, slots, _hosts(hosts))
    try:
        found = slots_.report(load, slots_.measure(load))
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    say_json(found) if as_json else _tell_slot(found)


def _hosts(said: str) -> Hosts:
    match said:
        case "auto" | "per_user":
            return said
        case number if number.isdecimal() and int(number) > 0:
            return int(number)
    raise typer.BadParameter(f"{said!r} is not {_HOSTS}", param_hint="--hosts")


def _tell_slot(found: dict[str, Any]) -> None:
    keys = ("users", "hosts", "wire_ms", "monolithic_ms", "echo_ms", "ratio")
    say_table([{key: found[key] for key in keys}], f"a slot: {found['encoder']}, batch {found['batch']}")
    say_table([found["breakdown"]], "of which, over gRPC")
    low, high = found["ratio_quartiles"]
    say(f"ratio = (wire - monolithic) / echo; half of the {found['blocks']} blocks between {low:.2f} and {high:.2f}")
    say(f"machine: {_machine(found)}")


@app.command()
def sweep(
    quick: Annotated[bool, typer.Option("--quick", help=f"{_QUICK_ROUNDS} rounds instead of {sweeps.ROUNDS}")] = False,
    as_json: Json = False,
) -> None:
    """Measure the whole of Fig. 2: every m, alpha and environment, one seed, in memory, one run per core.

    Example: equiran bench sweep --quick
    """
    rounds = _QUICK_ROUNDS if quick else sweeps.ROUNDS
    found = sweeps.report(*sweeps.measure(rounds), rounds)
    say_json(found) if as_json else _tell_sweep(found)


def _tell_sweep(found: dict[str, Any]) -> None:
    say_table(found["runs"], f"Fig. 2, {found['rounds']} rounds; seconds")
    scaled = f", scaled from {found['rounds']} rounds" if found["scaled"] else ""
    shared = f"{found['process_seconds']:.0f} s over all processes, {found['pre_pass_seconds']:.0f} s in pre-passes"
    say(f"{found['seconds']:.0f} s by the clock, {shared}{scaled}")
    say(f"machine: {_machine(found)}")


def _machine(found: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found["machine"].items())
