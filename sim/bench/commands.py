"""`equiran bench`: what each benchmark is asked and what it prints."""

from typing import Annotated, Any

import typer

from sim.bench import slot as slots_
from sim.console import say, say_json

app = typer.Typer(no_args_is_help=True, help="Benchmarks, each beside its own floor in the same run.")

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]


@app.command()
def slot(
    users: Annotated[int, typer.Option(min=1, help="users, each on a stream of its own")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="images per user and slot")] = 25,
    encoder: Annotated[slots_.Encoder, typer.Option(help="the shared model")] = "lenet",
    slots: Annotated[int, typer.Option(min=1, help="measured slots of each kind, in blocks of 50")] = 500,
    hosts: Annotated[int | None, typer.Option(min=1, help="processes for the users; default: one each")] = None,
    as_json: Json = False,
) -> None:
    """Measure one slot over gRPC beside the same maths in one process and a bare echo.

    Example: equiran bench slot --users 8 --batch 25 --encoder lenet
    """
    load = slots_.Load(users, batch, encoder, slots, min(hosts or users, users))
    found = slots_.report(load, slots_.measure(load))
    say_json(found) if as_json else say(_slot_text(found))


def _slot_text(found: dict[str, Any]) -> str:
    return str(found)
