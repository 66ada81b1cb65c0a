"""What the edge asks for and what users show, for one run: it travels between our processes as JSON and is not kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from secrets import token_urlsafe
from typing import Any, NamedTuple, Protocol

from edge_server.credentials import OPEN, ByToken, Guard, Open
from edge_server.judge import RunFailed
from sim.scenario import Scenario
from sim.security import Token as FromToken
from sim.security import read_token
from user_client.credentials import NOTHING, Credentials, Nothing, Token

_GUARDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Open, ByToken)}
_CREDENTIALS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Nothing, Token)}


class NoKeys(RunFailed):
    """What the scenario's security names cannot be used."""


class Connection(NamedTuple):
    """Users of one host that share a connection, by their places among its users, and what is shown on it."""

    users: Sequence[int]
    credentials: Credentials


class Keys(Protocol):
    """Of one run."""

    def guard(self, address: str) -> Guard:
        """For an edge that listens at this address. Raises NoKeys."""
        ...

    def connections(self, users: Sequence[str]) -> list[Connection]:
        """For a host that carries these users. Raises NoKeys."""
        ...


class _Same(NamedTuple):
    """One answer for all."""

    asked: Guard
    shown: Credentials

    def guard(self, address: str) -> Guard:  # noqa: ARG002 - the protocol's argument
        return self.asked

    def connections(self, users: Sequence[str]) -> list[Connection]:
        return [Connection(range(len(users)), self.shown)]


def keys_of(scenario: Scenario) -> Keys:
    """What the scenario names, or made up for this run. Raises NoKeys."""
    security = scenario.security
    return _Same(OPEN, NOTHING) if security is None else _with_token(security)


def _with_token(said: FromToken) -> Keys:
    try:
        made_up = said.file is None and said.env is None
        token = token_urlsafe(32) if made_up else read_token(said.file, said.env)
    except ValueError as error:
        raise NoKeys(f"security: {error}") from None
    return _Same(ByToken(token), Token(token))


def pack_guard(guard: Guard) -> bytes:
    """The guard as JSON."""
    return json.dumps(_packed(guard)).encode()


def unpack_guard(data: bytes) -> Guard:
    """What `pack_guard` packed."""
    guard: Guard = _unpacked(json.loads(data), _GUARDS)
    return guard


def pack_connections(connections: Sequence[Connection]) -> bytes:
    """The connections as JSON."""
    return json.dumps([[[*users], _packed(shown)] for users, shown in connections]).encode()


def unpack_connections(data: bytes) -> list[Connection]:
    """What `pack_connections` packed."""
    return [Connection(users, _unpacked(shown, _CREDENTIALS)) for users, shown in json.loads(data)]


def _packed(part: Any) -> dict[str, Any]:
    return {"kind": type(part).__name__, **asdict(part)}


def _unpacked(content: dict[str, Any], kinds: dict[str, type[Any]]) -> Any:
    return kinds[content.pop("kind")](**content)


ANYBODY, ALL_ON_ONE = pack_guard(OPEN), pack_connections(())
"""No security, packed."""
