"""`equiran certs`: development certificates into a folder."""

import re
from pathlib import Path
from typing import Annotated

import typer

from sim.caller import BadScenario
from sim.console import say, say_json
from sim.exits import errors

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where they go; an authority that is there is kept")],
    users: Annotated[str, typer.Option(metavar="A,B,..", help="users, each with a certificate of its own")] = "",
    edge: Annotated[
        str, typer.Option(metavar="NAME,..", help="host names and IP addresses of the edge")
    ] = "localhost,127.0.0.1",
    host: Annotated[
        list[str], typer.Option(metavar="NAME=A,B,..", help="a host that speaks for these users; may be repeated")
    ] = [],  # noqa: B006 - typer reads the default
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")] = False,
) -> None:
    """Make a development authority and certificates of the edge, of users and of hosts, for `security: {kind: mtls}`.

    Example: equiran certs secret/certs --users a,b --edge edge.example.org,10.0.0.7
    """
    from sim.certificate_folder import REVOKED, issue

    with errors():
        hosts = dict(_host(said) for said in host)
        try:
            made = issue(folder, _addresses(edge), _users("--users", users), hosts)
        except ValueError as error:
            raise BadScenario(f"{folder}: {error}") from error
        if as_json:
            rows = [{**one._asdict(), "until": f"{one.until:%Y-%m-%d}"} for one in made]
            say_json({"folder": str(folder), "certificates": rows})
            return
        for one in made:
            say(f"{one.fingerprint}  {folder / one.name}.pem, until {one.until:%Y-%m-%d}: {', '.join(one.names)}")
        say(f"to revoke one, put its fingerprint, as above, on a line of {folder / REVOKED}")


def _host(said: str) -> tuple[str, list[str]]:
    name, _, users = said.partition("=")
    if not users:
        raise BadScenario(f"--host {said}: give the users that it carries, such as rack=a,b")
    return _good("--host", name), _users(f"--host {name}", users)


def _users(option: str, said: str) -> list[str]:
    return [_good(option, name) for name in said.split(",")] if said else []


def _good(option: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadScenario(f"{option}: {name!r} is no name: letters, digits, -, _ and dots, at most 64")
    return name


def _addresses(said: str) -> list[str]:
    names = [name.strip() for name in said.split(",")]
    if not all(names):
        raise BadScenario(f"--edge {said}: give host names or IP addresses, separated by commas")
    return names
