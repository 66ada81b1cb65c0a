"""Looking at the network of this machine, and at Ray."""

import os
import socket
import time
from pathlib import Path

from sim.doctor.machine import Loopback, RayAround, Started

_HERE = "127.0.0.1"
_PATIENCE = 1.0
"""Seconds to wait for anybody."""
_CURRENT = Path("/tmp/ray/ray_current_cluster")
"""Where Ray keeps the address that `--address auto` means."""
_DAEMON = "raylet"


def loopback() -> Loopback:
    """Binds a port, calls it with the options of a user's channel, and looks who has the port of `serve`."""
    try:
        socket.create_server((_HERE, 0)).close()
    except OSError as error:
        return Loopback(f"no port of {_HERE} can be bound: {error.strerror}")
    failed = _call()
    return Loopback(failed, taken=None if failed else _taken())


def _taken() -> str | None:
    from sim.apart.common import LISTEN, Address
    from sim.reach import listens

    return LISTEN if listens(*Address.of("--listen", LISTEN)) else None


def _call() -> str | None:
    """Why a health check of a server of ours failed."""
    import asyncio

    import grpc

    try:
        asyncio.run(_health_check())
    except (grpc.RpcError, OSError, TimeoutError) as error:
        told = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        return f"a gRPC call over {_HERE} failed: {' '.join((told or 'no answer').split())[:200]}"
    return None


async def _health_check() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from edge_server.credentials import Open
    from edge_server.listening import Limits, listening
    from user_client.link import open_channel

    largest = 1 << 16
    listener = await listening({}, Open(), _HERE, 0, Limits(largest, streams=1, patience=_PATIENCE))
    channel = open_channel(listener.address, largest)
    try:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE)
    finally:
        await channel.close(None)
        await listener.stop()


def ray() -> RayAround:
    """RAY_ADDRESS and what other Rays left; Ray itself is not imported."""
    address = os.environ.get("RAY_ADDRESS") or None
    return RayAround(address, address and _unreachable(address), _stale(), _litter(), _daemons())


def _unreachable(address: str) -> str | None:
    from sim.reach import ClusterError, require_reachable

    try:
        require_reachable(address, _PATIENCE)
    except ClusterError as error:
        return f"RAY_ADDRESS: {error}"
    return None


def _stale() -> tuple[str, str] | None:
    """The file that names a cluster which is gone, and its address."""
    from sim.reach import listens

    if not _CURRENT.is_file():
        return None
    address = _CURRENT.read_text(encoding="utf-8").strip()
    host, _, port = address.rpartition(":")
    gone = bool(host) and port.isdecimal() and not listens(host, int(port))
    return (str(_CURRENT), address) if gone else None


def _litter() -> tuple[str, ...]:
    from sim.litter import left, short_tmp

    return tuple(str(path) for path in left(Path(short_tmp())))


def _daemons() -> int:
    import psutil

    return sum(process.info["name"] == _DAEMON for process in psutil.process_iter(["name"]))


def started() -> Started:
    """Starts a Ray of our own as a run does, and ends it."""
    from sim.cluster import Cluster
    from sim.reach import ClusterError

    before = os.environ.pop("RAY_ADDRESS", None)
    began = time.monotonic()
    try:
        with Cluster.start(None):
            return Started(time.monotonic() - began)
    except ClusterError as error:
        return Started(time.monotonic() - began, str(error))
    finally:
        if before is not None:
            os.environ["RAY_ADDRESS"] = before
