"""What can be said of a Ray cluster's address before Ray is asked: it waits long, says much, and may end the process.

The two calls are the smallest that Ray answers: to a driver (host:port), and to Ray Client (ray://host:port).
"""

import os
import socket
from pathlib import Path
from time import monotonic

import grpc

from sim.local import ProcessLost

_CONNECT = 5.0
"""Seconds to wait for somebody to listen, and for an answer."""

_LOOK, _GONE = 5.0, 20.0
"""Seconds between two looks for a cluster's head, and after which it is gone: at 60, Ray ends whoever needs it."""

_CLIENT = "ray://"
_DRIVER_CALL, _CLIENT_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId", "/ray.rpc.RayletDriver/ClusterInfo"


class ClusterError(Exception):
    """Ray could not be started or reached; one line."""


class HeadLost(ProcessLost):
    """The cluster itself is gone: there is nowhere to go on."""


def require_reachable(address: str, within: float = _CONNECT) -> None:
    """Raises ClusterError where nobody listens at host:port, or where the cluster does not take our token.

    within: seconds for each of the two.
    """
    if address.startswith(("http://", "https://")):
        told = "is a dashboard, for `ray job submit`; a run takes host:6379, or RAY_ADDRESS as a job finds it"
        raise ClusterError(f"cannot reach Ray at {address}: it {told}")
    target = address.removeprefix(_CLIENT)
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=within).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"cannot reach Ray at {address}: {error}") from error
    _require_welcome(address, target, within)


def _require_welcome(address: str, target: str, within: float) -> None:
    """Raises ClusterError where our token is refused; anything else is for Ray to say."""
    token, source = our_token()
    header = (("authorization", f"Bearer {token}"),) if token else ()
    call = _CLIENT_CALL if address.startswith(_CLIENT) else _DRIVER_CALL
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(call)(b"", metadata=header, timeout=within)  # type: ignore[call-arg]  # raw bytes
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                given = f"and refuses the one in {source}" if token else f"and there is none here ({source})"
                advice = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the cluster's own"
                raise ClusterError(f"cannot reach Ray at {address}: it asks for a token, {given}; {advice}") from error


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there, at once."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


class Head:
    """The process that knows a cluster's machines, at host:port."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address, self._target = address, (host, int(port))
        self._seen = self._looked = monotonic()

    def check(self) -> None:
        """Raises HeadLost once it has been gone for too long. Looks now and then only."""
        if monotonic() - self._looked < _LOOK:
            return
        if listens(*self._target):
            self._seen = monotonic()
        elif monotonic() - self._seen > _GONE:
            raise HeadLost(f"the head of the Ray cluster at {self._address} has not been heard for {_GONE:g} s")
        self._looked = monotonic()


def our_token() -> tuple[str, str]:
    """The token that Ray will show, empty for none, and where it is from. Raises ClusterError."""
    if (mode := os.environ.get("RAY_AUTH_MODE", "token")) != "token":
        return "", f"RAY_AUTH_MODE={mode}"
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token, "RAY_AUTH_TOKEN"
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip(), str(path)
    except OSError as error:
        if given or path.exists():
            raise ClusterError(f"cannot read the token in {path}: {error.strerror}") from error
        return "", f"no {path}"
