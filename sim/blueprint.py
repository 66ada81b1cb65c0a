"""What all processes of a run agree on: its scenario, and the run as the edge plans it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_server.absence import Log
from edge_server.aggregators import build_aggregator
from edge_server.build import build_domain
from edge_server.plan import RunPlan
from edge_server.state import Flat
from sim.fault_schedule import Strike
from sim.hindsight import Hindsights, Told
from sim.scenario import Scenario
from sim.seeds import stream_seed
from user_client.tasks.base import Place, held_out
from user_client.user import build_stream, reported_factor


class RunState(NamedTuple):
    """What a run goes on from. users: in scenario order. task: of a server task, as its process tells it."""

    edge: Flat
    users: Sequence[Flat]
    task: bytes | None = None


@dataclass(frozen=True)
class Blueprint:
    """What all processes must agree on: the scenario, and the run as the edge plans it.

    state: before round `plan.first`; None where that is round 0. spent: faults that have struck, and strike once.
    """

    scenario: Scenario
    plan: RunPlan
    state: RunState | None = None
    spent: frozenset[Strike] = frozenset()

    @property
    def whole(self) -> "Blueprint":
        """The same run from its first round to its last, whatever this one goes on from or ends before."""
        absence = replace(self.plan.absence, log=Log())
        plan = replace(self.plan, first=0, first_slot=0, last=None, struck=((), ()), absence=absence)
        return replace(self, plan=plan, state=None)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """One sample's outputs; the same for all users."""
        return self.plan.users[0].output_shape

    @cached_property
    def oracle(self) -> Hindsights:
        """The oracle of a simulated run: it sees every user's stream, and solves each round once."""
        scenario = self.scenario
        fairness = build_aggregator(scenario.edge.aggregator).fairness
        l_max = np.array([user.l_max for user in self.plan.users])
        told = [
            Told(
                build=partial(build_stream, user, place(scenario, k)),
                held_out=held_out(user.task),
                factor=reported_factor(user),
            )
            for k, user in enumerate(scenario.users)
        ]
        domain = build_domain(scenario.edge.primal.domain)
        return Hindsights(fairness, l_max, domain, told, self.plan.in_slots)


def place(scenario: Scenario, k: int) -> Place:
    """Where user k stands, with its random streams."""
    name = scenario.users[k].name
    return Place(
        name=name,
        index=k,
        users=len(scenario.users),
        rounds=scenario.rounds,
        slots=scenario.slots,
        seed=stream_seed(scenario.seed, "user", name),
        shared_seed=stream_seed(scenario.seed, "users"),
        folder=Path.cwd(),
    )


def on_cpu(design: Blueprint) -> Blueprint:
    """The same run with its encoder on the CPU."""
    edge = design.scenario.edge.model_copy(update={"device": "cpu"})
    return replace(design, scenario=design.scenario.model_copy(update={"edge": edge}))


def devices(scenario: Scenario) -> list[str]:
    """Where the edge computes: its encoder's device, then those of its server tasks."""
    return [scenario.edge.device, *(task.device for task in scenario.edge.server_tasks)]
