"""`equiran doctor`: what it is asked."""

from typing import Annotated

import typer

from sim.options import Json


def doctor(
    ray: Annotated[bool, typer.Option("--ray", help="also start a Ray of our own, and end it: some seconds")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine: Python, packages, torch, threads, memory, files, ports, Ray, data sets; say what to do.

    Each check is ok, a note (it works, but not as well), or trouble: some run fails here, and the exit code is 1.

    Example: equiran doctor --ray
    """
    from sim.doctor.telling import examine

    if code := examine(as_json=as_json, start_ray=ray):
        raise typer.Exit(code)
