"""`python -m siege edge|users SCENARIO`: the honest side of a siege, in processes of their own.

Each says that it is there and waits for a line: the edge to begin, the users for its address. The edge prints its
address and a line per round. Both end when their standard input does.
"""

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edge_server.cell import Cell
from edge_server.compute import OneThread, threads
from edge_server.record import Event, RoundRecord
from edge_server.service import serve
from sim.blueprint import Blueprint
from sim.build import build_rounds, build_session
from sim.keys import keys_of
from sim.local import LOOPBACK, host
from sim.planning import blueprint
from sim.scenario import load
from sim.step import Step

RUN = "siege"


def tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)  # noqa: T201 - what the test reads


def on_round(record: RoundRecord) -> None:
    tell(at=time.monotonic(), slots=record.t_slot.tolist())


def on_event(event: Event) -> None:
    if event["event"] != "join":
        tell(event=event)


async def edge(design: Blueprint) -> None:
    cell = Cell(design.plan, on_event, lambda: False)
    rounds = build_rounds(design, Step(0.05), cell, OneThread(1), on_round, on_event)
    server = await serve(cell, LOOPBACK, guard=keys_of(design.scenario.security).guard(LOOPBACK))
    tell(address=server.address)
    await rounds.run()


async def users(design: Blueprint, address: str) -> None:
    sessions = [build_session(design, k) for k in range(len(design.plan.users))]
    names = [user.name for user in design.plan.users]
    await host(sessions, address, design.plan, keys_of(design.scenario.security).connections(names))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main(role: str, scenario: str) -> None:
    design = blueprint(load(Path(scenario)).scenario, RUN)
    tell(there=True)
    address = sys.stdin.readline().strip()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with threads(1):
        asyncio.run(edge(design) if role == "edge" else users(design, address))


if __name__ == "__main__":
    main(*sys.argv[1:])
