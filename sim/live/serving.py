"""The page on a socket: where it listens, who may ask, and how it ends."""

import asyncio
import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import psutil

from sim.live.gate import LOOPBACK_NAMES, Gate

_GOODBYE = 2
"""Seconds, beside those of the last look, that pages have to hear it."""


class PortTaken(Exception):
    """The address cannot be listened on; one line."""


class Place(NamedTuple):
    """Where it listens. token: None on loopback. url: what a person opens; with the token, where there is one."""

    listening: socket.socket
    hosts: frozenset[str]
    token: str | None
    url: str


def place(host: str, port: int) -> Place:
    """Takes a port, 0 for any free one. Raises PortTaken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        unknown = isinstance(error, socket.gaierror)
        advice = "give another --host" if unknown else "give another --port, or 0 for any free one"
        why = error.strerror if unknown else os.strerror(error.errno or 0)
        raise PortTaken(f"cannot listen on {host}:{port}: {why}; {advice}") from error
    bound, loopback = int(listening.getsockname()[1]), ip_address(address[0]).is_loopback
    token = None if loopback else secrets.token_urlsafe(32)
    hosts = LOOPBACK_NAMES | {host} if loopback else _names(host, str(address[0]))
    shown = socket.gethostname() if ip_address(address[0]).is_unspecified else host
    shown = f"[{shown}]" if ":" in shown else shown
    return Place(listening, hosts, token, f"http://{shown}:{bound}/" + (f"?token={token}" if token else ""))


def _names(host: str, address: str) -> frozenset[str]:
    """Under which names this machine may be asked for the page, where it listens beyond loopback."""
    names = {host.lower(), address, socket.gethostname().lower()}
    if ip_address(address).is_unspecified:
        names |= {*LOOPBACK_NAMES, socket.getfqdn().lower()}
        names |= {found.address.split("%")[0] for every in psutil.net_if_addrs().values() for found in every}
    return frozenset(names)


def serve(folder: Path, where: Place, ended: Callable[[], bool] = lambda: False) -> None:
    """Serves the runs under `folder` until Ctrl-C, which is raised as KeyboardInterrupt, or until it has `ended`."""
    import uvicorn

    from sim.live.app import LAST_LOOK, live_app

    def leaving() -> bool:
        return server.should_exit

    app = Gate(live_app(folder, leaving), where.hosts, where.token)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(LAST_LOOK) + _GOODBYE,
    )
    server = uvicorn.Server(config)

    async def go() -> None:
        serving = asyncio.create_task(server.serve(sockets=[where.listening]))
        while not serving.done():
            server.should_exit = server.should_exit or ended()
            await asyncio.wait([serving], timeout=0.1)
        await serving

    _say_in_one_line(logging.getLogger("uvicorn.error"))
    with where.listening, suppress(asyncio.CancelledError):
        asyncio.run(go())


def _say_in_one_line(log: logging.Logger) -> None:
    """What goes wrong in a request is a line on stderr; a page that was cut off at the end is nothing."""

    class Line(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            if record.levelno >= logging.ERROR and error and not isinstance(error, asyncio.CancelledError):
                sys.stderr.write(f"live page: {type(error).__name__}: {error}\n")

    log.handlers, log.propagate = [Line()], False
