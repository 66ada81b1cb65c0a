"""Who may speak on the edge's streams: anybody, who knows a token, or who holds a certificate of our authority."""

import asyncio
import hmac
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from edge_server.attendance import Refused
from edge_server.ending import Ending
from protos import AUTHORIZATION, BEARER, USER_URI

Interceptor: TypeAlias = "grpc.aio.ServerInterceptor[Any, Any]"

OPEN_SERVICES = frozenset((health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME))
"""What needs no token."""

_LOOK = 0.5
"""Seconds between two looks at the list of revoked certificates."""


class Guard(Protocol):
    """Decides who may open a stream, and for whom it speaks."""

    def interceptors(self) -> Sequence[Interceptor]:
        """What stands in front of every call."""
        ...

    @property
    def revocations(self) -> "Revocations | None":
        """Whom to turn away although their certificates are good."""
        ...

    def bind(self, server: grpc.aio.Server, address: str) -> int:
        """Listens on host:port; the port. Raises RuntimeError."""
        ...

    def speaker(self, context: Any) -> "Speaker | None":
        """Who is at the other end; None where that is not known. Raises Refused."""
        ...


@dataclass(frozen=True)
class Open:
    """No security: anybody may speak, for anybody."""

    @property
    def revocations(self) -> "Revocations | None":
        """None."""
        return None

    def interceptors(self) -> Sequence[Interceptor]:
        """None."""
        return ()

    def bind(self, server: grpc.aio.Server, address: str) -> int:
        """In plain text."""
        return server.add_insecure_port(address)

    def speaker(self, context: Any) -> "Speaker | None":  # noqa: ARG002 - the protocol's argument
        """Nobody in particular."""
        return None


OPEN = Open()


@dataclass(frozen=True)
class ByToken(Open):
    """Whoever knows the token may speak, for anybody; in plain text."""

    token: str = field(repr=False)

    def interceptors(self) -> Sequence[Interceptor]:
        """Turns away who does not say the token, before anything of the call is read."""
        return (_Doorkeeper(self.token),)


class _Doorkeeper(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    def __init__(self, token: str):
        self._expected = (BEARER + token).encode()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        service = details.method.removeprefix("/").partition("/")[0]
        if service in OPEN_SERVICES or self._said(details.invocation_metadata):
            return await continuation(details)
        return grpc.stream_stream_rpc_method_handler(_turn_away)

    def _said(self, metadata: Any) -> bool:
        said = [
            value if isinstance(value, bytes) else value.encode() for key, value in metadata if key == AUTHORIZATION
        ]
        return len(said) == 1 and hmac.compare_digest(said[0], self._expected)


async def _turn_away(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or not the right one")


@dataclass(frozen=True)
class ByCertificate:
    """TLS on both sides: who holds a certificate of `authority` may speak for the users that it names.

    authority, chain, key: PEM. revoked: path of a list, see `Revocations`; None: nobody is revoked.
    """

    authority: str
    chain: str
    key: str = field(repr=False)
    revoked: str | None = None

    def interceptors(self) -> Sequence[Interceptor]:
        """None: TLS stands in front of them."""
        return ()

    @cached_property
    def revocations(self) -> "Revocations | None":
        """Raises OSError or ValueError if the list cannot be read."""
        return None if self.revoked is None else Revocations(Path(self.revoked))

    def bind(self, server: grpc.aio.Server, address: str) -> int:
        """With TLS. Raises OSError or ValueError if the list of revoked certificates cannot be read."""
        _ = self.revocations
        pair = (self.key.encode(), self.chain.encode())
        credentials = grpc.ssl_server_credentials([pair], self.authority.encode(), require_client_auth=True)
        return server.add_secure_port(address, credentials)

    def speaker(self, context: Any) -> "Speaker | None":
        """Whoever the certificate names. Raises Refused if it is revoked."""
        shown = context.auth_context()
        names = [name.decode(errors="replace") for name in shown.get("peer_uri", ())]
        users = frozenset(name.removeprefix(USER_URI) for name in names if name.startswith(USER_URI))
        speaker = Speaker(users, fingerprint(shown["x509_pem_cert"][0].decode()))
        if self.revocations is not None:
            self.revocations.refresh()
            if speaker.fingerprint in self.revocations:
                raise Refused("PERMISSION_DENIED", f"the certificate of {speaker} was revoked")
        return speaker


@dataclass(frozen=True)
class Speaker:
    """Who holds a certificate: `users` are those that it names."""

    users: frozenset[str]
    fingerprint: str

    def require(self, user: str) -> None:
        """Raises Refused unless the certificate names this user."""
        if user not in self.users:
            raise Refused("PERMISSION_DENIED", f"the certificate of {self} does not speak for user {user!r}")

    def __str__(self) -> str:
        named = sorted(self.users)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return (", ".join(map(repr, named[:3])) + more) or "nobody"


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, 64 hexadecimal digits."""
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


class Revocations:
    """Fingerprints of revoked certificates: SHA-256 in hexadecimal, one a line, as openssl prints them or plain; # and
    what follows is a comment. Read again when the file has changed. Raises OSError or ValueError if it cannot be."""

    def __init__(self, path: Path):
        self._path = path
        self._stamp = self._now()
        self._known = self._read()

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self._known

    def refresh(self) -> None:
        """Reads the list if it has changed. Raises Refused if it cannot be read: nobody new is let in then."""
        try:
            if (now := self._now()) != self._stamp:
                self._known, self._stamp = self._read(), now
        except (OSError, ValueError) as error:
            raise Refused("UNAVAILABLE", "the list of revoked certificates cannot be read") from error

    def _now(self) -> tuple[int, int, int]:
        seen = self._path.stat()
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def _read(self) -> frozenset[str]:
        lines = (line.partition("#")[0].strip() for line in self._path.read_text(encoding="utf-8").splitlines())
        return frozenset(self._digits(number, line) for number, line in enumerate(lines, start=1) if line)

    def _digits(self, number: int, line: str) -> str:
        digits = line.rpartition("=")[2].replace(":", "").lower()
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise ValueError(f"{self._path}:{number}: not a SHA-256 fingerprint of 64 hexadecimal digits")
        return digits


class Speakers:
    """Who speaks on the streams that are open; a stream ends when its certificate is revoked."""

    def __init__(self, guard: Guard):
        self._guard = guard
        self._speaking: dict[Ending, Speaker] = {}

    @contextmanager
    def admitted(self, context: Any, ending: Ending) -> Iterator[Speaker | None]:
        """Around the conversation on one stream, which `ending` ends. Raises Refused."""
        speaker = self._guard.speaker(context)
        if speaker is None:
            yield speaker
            return
        self._speaking[ending] = speaker
        try:
            yield speaker
        finally:
            del self._speaking[ending]

    async def watch(self) -> None:
        """Ends streams whose certificates are revoked, for as long as it runs."""
        revoked = self._guard.revocations
        while revoked is not None:
            await asyncio.sleep(_LOOK)
            self._end(revoked)

    def _end(self, revoked: Revocations) -> None:
        with suppress(Refused):  # it is said to everybody who comes meanwhile
            revoked.refresh()
        for ending, speaker in self._speaking.items():
            if speaker.fingerprint in revoked:
                ending.end(Refused("PERMISSION_DENIED", f"the certificate of {speaker} was revoked"))
