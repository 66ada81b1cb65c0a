"""Who speaks to the edge without a right to: all of them are turned away, and nobody else notices."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any, NamedTuple

import grpc
from simulated_cases import Case, WatchedSession
from simulated_network import Host, Network

from edge_server.cell import Cell
from protos import LIVE, TRUNK
from protos import edge_pb2 as pb


class Rival(NamedTuple):
    """A second process of user k."""

    k: int
    session: WatchedSession
    host: Host


def strangers(random: Random, case: Case, network: Network, cell: Cell) -> list[Coroutine[Any, Any, list[str]]]:
    """Some that come at various times; each gives what it found wrong."""
    if random.random() < 0.7:
        return []
    return [_come(random, case, network, cell) for _ in range(random.randint(1, 4))]


async def _come(random: Random, case: Case, network: Network, cell: Cell) -> list[str]:
    await asyncio.sleep(random.choice((1, 10, 100)) * network.weather.delay()())
    said = _nonsense(random, case)
    k = random.randrange(len(case.names))
    conversation = cell.post.conversations.get(k)
    if random.random() < 0.6 and conversation is not None and conversation._proven:
        said = _stale(random, case.session(k))
    method = TRUNK if random.random() < 0.2 else LIVE
    data = pb.Frame(parcels=[pb.Parcel(message=said)]).SerializeToString() if method == TRUNK else said
    code, details = await network.ask(data, method)
    return [] if code is not grpc.StatusCode.OK else [f"a stranger was let in that said {said!r}: {details}"]


def _nonsense(random: Random, case: Case) -> bytes:
    join = pb.UserMessage.FromString(case.session(0).join())
    kind = random.randrange(6)
    if kind == 0:
        return random.randbytes(random.randint(0, 40))
    if kind == 1:
        return pb.UserMessage(leave=pb.Leave()).SerializeToString()
    if kind == 2:
        join.join.run = "another"
    elif kind == 3:
        join.join.user = "mallory"
    elif kind == 4:
        join.join.batch += 1
    else:
        join.join.protocol += 1
    return join.SerializeToString()


def _stale(random: Random, session: WatchedSession) -> bytes:
    """A Join of the past, or of a process that remembers nothing, or too much."""
    join = pb.UserMessage.FromString(session.join())
    kind = random.randrange(3)
    if kind:
        join.join.incarnation = 1000
        join.join.heard = 0 if kind == 1 else 1_000_000
    return join.SerializeToString()
