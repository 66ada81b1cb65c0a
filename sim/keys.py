"""What the edge asks for and what users show, for one run: it travels between our processes as JSON and is not kept."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, NamedTuple, Protocol

from edge_server.credentials import OPEN, ByCertificate, ByToken, Guard, Open
from edge_server.judge import RunFailed
from sim.security import Mtls, Security, read_token
from sim.security import Token as FromToken
from user_client.credentials import NOTHING, Certificate, Credentials, Nothing, Token

_GUARDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Open, ByToken, ByCertificate)}
_CREDENTIALS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Nothing, Token, Certificate)}


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


class _MadeUp:
    """Certificates of an authority that lives as long as this object; hosts get them, not users."""

    def __init__(self) -> None:
        from sim.certificates import MOST_USERS, Authority

        self._authority, self._most = Authority.create(), MOST_USERS

    def guard(self, address: str) -> Guard:
        return ByCertificate(self._authority.pair.chain, *self._authority.edge([address]))

    def connections(self, users: Sequence[str]) -> list[Connection]:
        whole = range(len(users))
        shares = [whole[first : first + self._most] for first in whole[:: self._most]]
        return [Connection(share, self._shown([users[k] for k in share])) for share in shares]

    def _shown(self, users: Sequence[str]) -> Certificate:
        return Certificate(self._authority.pair.chain, *self._authority.speaker("host", users))


class _Filed:
    """Certificates in a folder: of a host that speaks for all, or else of each user."""

    def __init__(self, folder: str):
        self._folder = Path(folder)

    def guard(self, address: str) -> Guard:
        from sim.certificate_folder import REVOKED, authority_of, edge_pair

        with _named():
            pair = edge_pair(self._folder, address)
            return ByCertificate(authority_of(self._folder), *pair, str(self._folder / REVOKED))

    def connections(self, users: Sequence[str]) -> list[Connection]:
        from sim.certificate_folder import authority_of, host_pair, pair_of

        with _named():
            authority = authority_of(self._folder)
            if shared := host_pair(self._folder, users):
                return [Connection(range(len(users)), Certificate(authority, *shared))]
            pairs = [pair_of(self._folder, f"users/{user}") for user in users]
            return [Connection([k], Certificate(authority, *pair)) for k, pair in enumerate(pairs)]


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise NoKeys(f"security: {error}") from None


def keys_of(security: Security | None) -> Keys:
    """What a scenario's security names, or made up for this run. Raises NoKeys."""
    if security is None:
        return _Same(OPEN, NOTHING)
    if isinstance(security, FromToken):
        return _with_token(security)
    return _MadeUp() if security.folder is None else _Filed(security.folder)


def check(security: Security | None, users: Sequence[str]) -> None:
    """Raises ValueError where certificates that the scenario names are not good for the edge and all users."""
    if isinstance(security, Mtls) and security.folder is not None:
        from sim.certificate_folder import require_all

        require_all(Path(security.folder), users)


def _with_token(said: FromToken) -> Keys:
    made_up = said.file is None and said.env is None
    with _named():
        token = token_urlsafe(32) if made_up else read_token(said.file, said.env)
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
