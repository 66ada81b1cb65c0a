"""`bench slot`: what a slot costs over gRPC, beside the same maths in one process and a bare echo of the same bytes.

They, and a peer if one is asked for, take turns in blocks, so that a machine that drifts drifts for all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protos import edge_pb2 as pb
from protos.tensors import Spec, pack
from sim.bench.machine import machine
from sim.bench.peer import Block, Peer
from sim.bench.process import Worker, ended
from sim.blueprint import Blueprint
from sim.keys import Keys, keys_of, pack_connections, pack_guard
from sim.local import LOOPBACK
from sim.placement import Hosts, shares
from sim.planning import blueprint
from sim.recipe import to_recipe
from sim.scenario import Scenario
from sim.security import Mtls
from sim.step import Step

Encoder = Literal["lenet", "mlp", "linear"]
Floats = NDArray[np.float64]

BLOCK = 20
"""Slots of one kind in a row."""

_FIRST = 5
"""Slots in which two computations of the same maths must agree; beyond, one ulp at a ReLU's edge spreads."""

_STEP = 0.1
_ENCODERS: dict[Encoder, dict[str, Any]] = {
    "lenet": {"kind": "lenet", "width": 50},
    "mlp": {"kind": "mlp", "width": 50},
    "linear": {"kind": "linear", "outputs": 50, "initial": "default"},
}


@dataclass(frozen=True)
class Load:
    """users with `batch` rainbow images a slot each, on hosts as in a scenario; at least `slots` slots of each kind.

    mtls: the same over TLS with certificates takes turns, too.
    """

    users: int
    batch: int
    encoder: Encoder
    slots: int
    hosts: Hosts
    peer_style: bool = False
    mtls: bool = False


class Blocks(NamedTuple):
    """All that was measured, warm-up excluded: [blocks, m] seconds, [blocks, m, K] bytes."""

    wire: Floats
    monolithic: Floats
    echo: Floats
    forward: Floats
    backward: Floats
    user: Floats
    """[blocks, m]: the slowest user's seconds from outputs to feedback; its next features are made meanwhile."""
    loss_difference: float
    """The largest between wire and monolithic in the first slots, before rounding has had time to grow."""
    bytes_up: NDArray[np.int64]
    bytes_down: NDArray[np.int64]
    peer: Floats | None = None
    peer_difference: float | None = None
    """The largest between the peer's and the monolithic losses in the first slot, before the encoders part."""
    mtls: Floats | None = None
    """As `wire`, with certificates."""


class _Cell(NamedTuple):
    """An edge and its hosts."""

    edge: Worker
    hosts: list[Worker]


class _Contenders(NamedTuple):
    """Who takes turns. secured: a cell with certificates, if one was asked for."""

    plain: _Cell
    secured: list[_Cell]
    monolith: Worker
    echo: Worker
    peer: Peer | None


def design_of(load: Load) -> Blueprint:
    """The scenario of a load: one round is one block, the first one a warm-up."""
    block = min(BLOCK, load.slots)
    user = {
        "task": {"kind": "rainbow", "digits": "bundled", "batch": load.batch, "validation": 0},
        "front": "none",
        "head": {"kind": "linear", "step": _STEP},
    }
    scenario = Scenario.model_validate(
        {
            "schema": 1,
            "name": "bench_slot",
            "rounds": 1 + -(-load.slots // block),
            "slots": block,
            "users": [{"name": f"user_{k}", **user} for k in range(load.users)],
            "edge": {
                "encoder": _ENCODERS[load.encoder],
                "aggregator": {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3},
                "primal": {"step": _STEP},
                "meta": {"rule": "continue", "target": "last"},
            },
        }
    )
    return blueprint(scenario, scenario.name)


def exchanges(design: Blueprint) -> list[tuple[int, int]]:
    """Bytes down and up, one user, of a slot's two exchanges: acknowledgement, features; outputs, feedback.

    Of a slot in the middle of a run: the numbers of a round's first slots take fewer bytes.
    """
    user, key = design.plan.users[0], pb.Key(round=1, slot=design.plan.slots - 1)
    acknowledgement, outputs = pb.EdgeMessage(), pb.EdgeMessage()
    features, feedback = pb.UserMessage(), pb.UserMessage()
    acknowledgement.acknowledgement.key.CopyFrom(key)
    acknowledgement.acknowledgement.next.ask = pb.Next.WAIT  # the features are on their way
    for message in (features.features, outputs.outputs, feedback.feedback):
        message.key.CopyFrom(key)
    feedback.feedback.loss = 1.0
    pack(_zeros(user.features), features.features.features)
    pack(_zeros(user.gradient), outputs.outputs.outputs)
    pack(_zeros(user.gradient), feedback.feedback.gradient)
    return [(acknowledgement.ByteSize(), features.ByteSize()), (outputs.ByteSize(), feedback.ByteSize())]


def message_sizes(load: Load) -> tuple[int, int, int, int]:
    """Bytes of a user's features, outputs, feedback and acknowledgement."""
    (acknowledgement, features), (outputs, feedback) = exchanges(design_of(load))
    return features, outputs, feedback, acknowledgement


def _zeros(spec: Spec) -> Tensor:
    return torch.zeros(spec.shape, dtype=spec.dtype)


def measure(load: Load) -> Blocks:
    """Runs all of them, block by block. Raises WorkerFailed."""
    design = design_of(load)
    with _contenders(load, design) as contenders:
        blocks = [_turn(contenders, design, number) for number in range(design.plan.rounds)]
        for cell in contenders.secured:
            cell.edge.tell("go")
        users = [seconds for host in contenders.plain.hosts for seconds in host.hear()["seconds"]]
        for cell in (contenders.plain, *contenders.secured):
            cell.edge.tell("everybody is gone")
        contenders.echo.tell(0)
        if contenders.peer:
            contenders.peer.end()
    return _gathered(blocks, users)


@contextmanager
def _contenders(load: Load, design: Blueprint) -> Iterator[_Contenders]:
    workers: list[Worker] = []

    def start(module: str, task: dict[str, Any]) -> Worker:
        workers.append(Worker(f"sim.bench.{module}", task))
        return workers[-1]

    def start_cell(keys: Keys) -> _Cell:
        edge = start("wire", {"recipe": recipe, "guard": pack_guard(keys.guard(LOOPBACK)).decode()})
        task = {"recipe": recipe, "address": edge.hear()["address"]}
        shown = [pack_connections(keys.connections([names[k] for k in share])).decode() for share in placed]
        hosts = zip(placed, shown, strict=True)
        return _Cell(edge, [start("wire", {**task, "users": share, "connections": own}) for share, own in hosts])

    recipe, sizes = to_recipe(design, Step(_STEP)), exchanges(design)
    names = [user.name for user in design.plan.users]
    placed = shares(load.users, load.hosts, joblib.cpu_count())
    with ended(workers):
        echo = start("echo", {"users": load.users, "exchanges": sizes})
        monolith = start("monolith", {"recipe": recipe})
        address = echo.hear()["address"]
        for share in placed:
            start("echo", {"address": address, "exchanges": sizes, "streams": len(share)})
        plain = start_cell(keys_of(None))
        secured = [start_cell(keys_of(Mtls(kind="mtls")))] if load.mtls else []
        monolith.hear()
        peer = Peer(workers, recipe, placed) if load.peer_style else None
        yield _Contenders(plain, secured, monolith, echo, peer)


def _turn(contenders: _Contenders, design: Blueprint, number: int) -> dict[str, Any]:
    """One block of each; the plain edge has begun its own when the turn begins, and begins the next one last.

    The secured one's first block warms up, before any turn.
    """
    plain, secured, monolith, echo, peer = contenders
    wire = plain.edge.hear()
    mtls = [cell.edge.ask("go") if number else cell.edge.hear() for cell in secured]
    turn = {"wire": wire, "mtls": mtls, "monolithic": monolith.ask("go"), "echo": echo.ask(design.plan.slots)}
    if peer:
        turn["peer"] = peer.block()
    plain.edge.tell("go")
    return turn


def _gathered(turns: list[dict[str, Any]], users: list[list[float]]) -> Blocks:
    """Everything but the first turn. users [K, 2 T m + 1]: seconds of features and feedback in turn, then of leave."""
    kept = turns[1:]

    def of(kind: str, key: str) -> Any:
        return np.array([turn[kind][key] for turn in kept])

    peers: list[Block] = [turn["peer"] for turn in turns if "peer" in turn]
    own = np.array(users)[:, :-1].reshape(len(users), len(turns), -1, 2)[..., 1].max(axis=0)
    return Blocks(
        wire=of("wire", "slot"),
        monolithic=of("monolithic", "slot"),
        echo=np.array([turn["echo"] for turn in kept]),
        forward=of("wire", "forward"),
        backward=of("wire", "backward"),
        user=own[1:],
        loss_difference=_loss_difference(turns[0]),
        bytes_up=of("wire", "bytes_up"),
        bytes_down=of("wire", "bytes_down"),
        peer=np.array([block.seconds for block in peers[1:]]) if peers else None,
        peer_difference=_largest(peers[0].loss[0], turns[0]["monolithic"]["loss"][0]) if peers else None,
        mtls=np.array([turn["mtls"][0]["slot"] for turn in kept]) if kept[0]["mtls"] else None,
    )


def _loss_difference(turn: dict[str, Any]) -> float:
    wire, monolithic = (np.array(turn[kind]["loss"])[:_FIRST] for kind in ("wire", "monolithic"))
    return _largest(wire, monolithic)


def _largest(a: Any, b: Any) -> float:
    return float(np.abs(np.subtract(a, b)).max())


def report(load: Load, blocks: Blocks) -> dict[str, Any]:
    """The contract's numbers, in milliseconds: medians over all slots, and the ratio's spread over blocks."""
    wire, monolithic, echo = (_ms(times) for times in (blocks.wire, blocks.monolithic, blocks.echo))
    by_block = _ratio(*(np.median(times, axis=1) for times in (blocks.wire, blocks.monolithic, blocks.echo)))
    rest = blocks.wire - blocks.user - blocks.forward - blocks.backward
    return {
        "users": load.users,
        "batch": load.batch,
        "encoder": load.encoder,
        "hosts": len(shares(load.users, load.hosts, joblib.cpu_count())),
        "slots": blocks.wire.size,
        "blocks": len(blocks.wire),
        "wire_ms": wire,
        "monolithic_ms": monolithic,
        "echo_ms": echo,
        "ratio": float(_ratio(wire, monolithic, echo)),
        "ratio_quartiles": np.quantile(by_block, (0.25, 0.75)).tolist(),
        "breakdown": {
            "user_ms": _ms(blocks.user),
            "wire_ms": _ms(rest),
            "edge_forward_ms": _ms(blocks.forward),
            "edge_backward_ms": _ms(blocks.backward),
        },
        "bytes_up": int(np.median(blocks.bytes_up)),
        "bytes_down": int(np.median(blocks.bytes_down)),
        "loss_difference": blocks.loss_difference,
        **_of_peer(blocks),
        **_secured(blocks),
        "machine": machine(),
    }


def _of_peer(blocks: Blocks) -> dict[str, Any]:
    """Its slot, and how many of ours that is; nothing without one."""
    if blocks.peer is None:
        return {}
    by_block = np.median(blocks.peer, axis=1) / np.median(blocks.wire, axis=1)
    return {
        "peer_ms": _ms(blocks.peer),
        "peer_ratio": _ms(blocks.peer) / _ms(blocks.wire),
        "peer_ratio_quartiles": np.quantile(by_block, (0.25, 0.75)).tolist(),
        "peer_loss_difference": blocks.peer_difference,
    }


def _secured(blocks: Blocks) -> dict[str, Any]:
    """What certificates add to a slot, as a share of it: of the medians over all slots, and its spread over blocks."""
    if blocks.mtls is None:
        return {}
    by_block = np.median(blocks.mtls, axis=1) / np.median(blocks.wire, axis=1) - 1
    cost, quartiles = _ms(blocks.mtls) / _ms(blocks.wire) - 1, np.quantile(by_block, (0.25, 0.75))
    return {"mtls_ms": _ms(blocks.mtls), "mtls_cost": cost, "mtls_cost_quartiles": quartiles.tolist()}


def _ratio(wire: Any, monolithic: Any, echo: Any) -> Any:
    return (wire - monolithic) / echo


def _ms(seconds: Floats) -> float:
    return float(np.median(seconds)) * 1e3
