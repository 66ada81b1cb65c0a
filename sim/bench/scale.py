"""`bench scale`: what a slot costs as users become many, in time beside a bare echo, and in memory.

Kernel regression behind the linear encoder, or bundled Rainbow digits behind a deep one; one sample per user and slot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import joblib
import numpy as np
from numpy.typing import NDArray

from edge_server.config import BuiltIn
from sim.bench.machine import machine
from sim.bench.process import Worker, ended
from sim.bench.scale_memory import forget_peak, peak, resident
from sim.bench.slot import Encoder, exchanges
from sim.blueprint import Blueprint
from sim.placement import Hosts, shares
from sim.planning import blueprint
from sim.recipe import to_recipe
from sim.scenario import Scenario
from sim.step import Step

Floats = NDArray[np.float64]

BLOCK = 10
"""Slots of one kind in a row."""

AGGREGATORS: tuple[str, ...] = tuple(
    kind for rule in get_args(BuiltIn) for kind in get_args(rule.model_fields["kind"].annotation)
)

_STEP = 0.1
"""Divided by the number of users: the weights of most rules add up to about that."""

_EDGE: dict[Encoder, dict[str, Any]] = {
    "linear": {"encoder": {"kind": "linear"}, "u_max": 4.0, "domain": {"box": 1.0}},
    "mlp": {"encoder": {"kind": "mlp", "width": 50}, "u_max": 3.3, "domain": "none"},
    "lenet": {"encoder": {"kind": "lenet", "width": 50}, "u_max": 3.3, "domain": "none"},
}
_RAINBOW = {"kind": "rainbow", "digits": "bundled", "batch": 1, "validation": 0}


@dataclass(frozen=True)
class Load:
    """users on hosts as in a scenario, one sample each; at least `slots` slots are timed.

    trunk: the users of a host share a stream.
    """

    users: int
    hosts: Hosts
    encoder: Encoder
    aggregator: str
    slots: int
    trunk: bool = False

    @property
    def block(self) -> int:
        """Slots of a round."""
        return min(BLOCK, self.slots)

    @property
    def blocks(self) -> int:
        """Rounds that are timed."""
        return -(-self.slots // self.block)

    @property
    def placed(self) -> list[list[int]]:
        """The users of each host."""
        return shares(self.users, self.hosts, joblib.cpu_count())


class Measured(NamedTuple):
    """Seconds [blocks, m] of every timed slot, and MB; None where the system does not tell."""

    wire: Floats
    echo: Floats
    edge: Floats
    """The edge's compute thread: forward pass, weights, backward pass, both steps."""
    rule: Floats
    """Of which the rule's weights, with all that they need."""
    edge_base: float | None
    """The edge before the first user came."""
    edge_peak: float | None
    rule_peak: float | None
    """What the rule took beyond what the edge held already, at most, in a slot."""
    host_peak: float | None
    """The largest host."""
    host_base: float | None
    """A host before it made its first user."""
    join: float
    """Seconds from the first Join to the last."""
    parameters: int
    """d."""


def design_of(load: Load) -> Blueprint:
    """A warm-up round, the timed ones, and one to be weighed. Raises PartError where a rule's library is missing."""
    edge = _EDGE[load.encoder]
    kernel = load.encoder == "linear"
    user = {
        "task": {"kind": "kernel_regression"} if kernel else _RAINBOW,
        "head": {"kind": "identity"} if kernel else {"kind": "linear", "step": _STEP},
    }
    scenario = Scenario.model_validate(
        {
            "schema": 1,
            "name": "bench_scale",
            "rounds": load.blocks + 2,
            "slots": load.block,
            "trunk": load.trunk,
            "users": [{"name": f"user_{k}", **user} for k in range(load.users)],
            "edge": {
                "encoder": edge["encoder"],
                "aggregator": {"kind": load.aggregator, "u_max": edge["u_max"]},
                "primal": {"step": _STEP / load.users, "domain": edge["domain"], "cap": 1.0},
                "meta": {"rule": "continue", "target": "last"},
            },
        }
    )
    return blueprint(scenario, scenario.name)


def measure(load: Load, design: Blueprint) -> Measured:
    """Slots of the cell and of the echo, block by block in turn. Raises WorkerFailed."""
    with _contenders(load, design) as (edge, hosts, echo, edge_base):
        turns = []
        for _ in range(load.blocks + 1):
            turns.append(_turn(edge, hosts, echo, load.block))
            edge.tell("go")
        weighed = edge.hear()
        edge.tell("go")
        bases = [host.hear()["base"] for host in hosts]
        edge.tell("everybody is gone")
        echo.tell(0)
    return _gathered(turns[1:], weighed, edge_base, _largest(bases))


@contextmanager
def _contenders(load: Load, design: Blueprint) -> Iterator[tuple[Worker, list[Worker], Worker, float | None]]:
    """The edge, its hosts, the echo, and the edge's MB before the first user came."""
    workers: list[Worker] = []

    def start(module: str, task: dict[str, Any]) -> Worker:
        workers.append(Worker(f"sim.bench.{module}", task))
        return workers[-1]

    recipe, sizes = to_recipe(design, Step(_STEP / load.users)), exchanges(design)
    with ended(workers):
        echo = start("echo", {"users": load.users, "exchanges": sizes})
        edge = start("scale_edge", {"recipe": recipe})
        floor, address = echo.hear()["address"], edge.hear()["address"]
        forget_peak(edge.pid)
        base = resident(edge.pid)
        for share in load.placed:
            start("echo", {"address": floor, "exchanges": sizes, "streams": len(share)})
        hosts = [start("wire", {"recipe": recipe, "users": share, "address": address}) for share in load.placed]
        yield edge, hosts, echo, base


def _turn(edge: Worker, hosts: list[Worker], echo: Worker, slots: int) -> dict[str, Any]:
    """One block of each; the edge has begun its own when the turn begins, and then waits, and with it the hosts."""
    wire = edge.hear()
    memory = {"edge_peak": peak(edge.pid), "host_peak": _largest([peak(host.pid) for host in hosts])}
    return {**wire, **memory, "echo": echo.ask(slots)}


def _largest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known, default=None)


def _gathered(
    turns: list[dict[str, Any]], weighed: dict[str, Any], edge_base: float | None, host_base: float | None
) -> Measured:
    def of(key: str) -> Floats:
        return np.array([turn[key] for turn in turns])

    return Measured(
        wire=of("slot"),
        echo=of("echo"),
        edge=of("forward") + of("backward"),
        rule=of("rule"),
        edge_base=edge_base,
        edge_peak=turns[-1]["edge_peak"],
        rule_peak=_largest(weighed["rule_mb"]),
        host_peak=turns[-1]["host_peak"],
        host_base=host_base,
        join=turns[-1]["join"],
        parameters=weighed["parameters"],
    )


def row(load: Load, measured: Measured) -> dict[str, Any]:
    """The contract's numbers of one row: medians over all timed slots in ms, memory in MB (10^6 bytes)."""
    wire, echo, edge, rule = (
        float(np.median(times)) * 1e3 for times in (measured.wire, measured.echo, measured.edge, measured.rule)
    )
    return {
        "users": load.users,
        "hosts": len(load.placed),
        "ms_per_slot": wire,
        "user_steps_per_s": load.users / wire * 1e3,
        "echo_ms": echo,
        "ratio_to_echo": wire / echo,
        "edge_ms": edge,
        "rule_ms": rule,
        "edge_base_mb": measured.edge_base,
        "edge_rss_mb": measured.edge_peak,
        "rule_mb": measured.rule_peak,
        "host_rss_mb": measured.host_peak,
        "host_kb_per_user": _per_user(load, measured),
        "join_s": measured.join,
        "slots": measured.wire.size,
    }


def _per_user(load: Load, measured: Measured) -> float | None:
    """kB (1000 bytes) by which the largest host grew for each of its users."""
    if measured.host_peak is None or measured.host_base is None:
        return None
    return (measured.host_peak - measured.host_base) * 1e3 / max(map(len, load.placed))


def report(measured: list[tuple[Load, Measured]]) -> dict[str, Any]:
    """All rows, and what they have in common; `parameters` is d."""
    load, first = measured[0]
    return {
        "encoder": load.encoder,
        "aggregator": load.aggregator,
        "trunk": load.trunk,
        "batch": 1,
        "parameters": first.parameters,
        "rows": [row(*one) for one in measured],
        "machine": machine(),
    }
