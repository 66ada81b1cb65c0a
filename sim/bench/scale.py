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
from sim.bench.process import Worker, ended
from sim.bench.scale_memory import forget_peak, peak, resident
from sim.bench.slot import Encoder, exchanges
from sim.build import Blueprint, blueprint
from sim.placement import Hosts, shares
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
    """users on hosts as in a scenario, one sample each; at least `slots` slots are timed."""

    users: int
    hosts: Hosts
    encoder: Encoder
    aggregator: str
    slots: int

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
    parameters: int
    """d."""


def design_of(load: Load) -> Blueprint:
    """A warm-up round, the timed ones, and one to be weighed. Raises PartError, as for a rule whose library is not here."""
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


class _Contenders(NamedTuple):
    edge: Worker
    hosts: list[Worker]
    echo: Worker
    edge_base: float | None


def measure(load: Load) -> Measured:
    """Runs both, block by block. Raises PartError, WorkerFailed."""
    design = design_of(load)
    with _contenders(load, design) as those:
        turns = [_turn(those, load.block) for _ in range(load.blocks + 1)]
        edge_peak, host_peak = peak(those.edge.pid), _largest([peak(host.pid) for host in those.hosts])
        weighed = those.edge.ask("go")
        for word in ("that was the last round", "everybody is gone"):
            those.edge.tell(word)
        those.echo.tell(0)
        for host in those.hosts:
            host.hear()
    return _gathered(turns[1:], weighed, edge_base=those.edge_base, edge_peak=edge_peak, host_peak=host_peak)


def _turn(those: _Contenders, slots: int) -> dict[str, Any]: ...
