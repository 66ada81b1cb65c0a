"""`equiran watch`: the live page of a run, or of the runs in a folder. It starts without what a run needs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sim.priority import yield_to_edge

LOOPBACK, PORT = "127.0.0.1", 8642
_FAILED, _BAD_INPUT = 1, 2


def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="a run directory, or a folder of them such as runs/")
    ] = Path("runs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to serve the page; 0: any free port")] = PORT,
    host: Annotated[
        str, typer.Option(help="an address beyond this machine's own: the page then asks for a token")
    ] = LOOPBACK,
) -> None:
    """Serve the live page of runs until Ctrl-C. It reads their records, and disturbs nobody.

    Example: equiran watch runs/ --port 0
    """
    from sim.live.serving import PortTaken, place, serve

    if not folder.is_dir():
        _fail(f"{folder}: no such directory; give a run directory, or a folder of them", _BAD_INPUT)
    try:
        where = place(host, port)
    except PortTaken as error:
        _fail(str(error), _FAILED)
    yield_to_edge()
    typer.echo(where.url)
    serve(folder, where)


def _fail(line: str, code: int) -> None:
    typer.echo(line, err=True)
    raise typer.Exit(code)


def main() -> None:
    """The command by itself."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(watch)
    app(args=sys.argv[2:], prog_name="equiran watch")
