"""A radio's power from the policy that this very run trains, at a pace: who waits is the edge, never the clock."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from edge_server.cell import Cell
from edge_server.judge import RunFailed
from edge_server.radio.power import Routed
from edge_server.record import Event
from edge_server.server_tasks.beside import BesideSlots
from edge_server.server_tasks.job import Pace

_KIND = "routed_mtl"
_POLL = 0.01
"""Seconds between two looks at whether a policy has come."""


def pace_of(steps_per_round: int, rounds: int) -> Pace:
    """When such a run needs policies: round t > 0 that after steps_per_round t steps."""
    return Pace(steps_per_round, steps_per_round * (rounds - 1))


@dataclass(frozen=True)
class Paced:
    """Gives `power` its policy before every round: none for round 0, then that after `steps_per_round` t steps.

    Which one it is depends on the scenario alone; a trainer that has not come so far is waited for, in real time.
    """

    power: Routed
    steps_per_round: int
    tasks: BesideSlots
    cell: Cell
    on_event: Callable[[Event], None]

    async def before(self, t: int) -> bool:
        """Round t may begin; False where somebody wants the run to stop before it may.

        Raises RunFailed where its policy will never come, and where the run has failed meanwhile.
        """
        if t == 0:
            self._tell(t, None)
            return True
        while (found := self.tasks.after(_KIND, self.steps_per_round * t)) is None:
            self.cell.check()
            if self.cell.wanted_to_stop:
                return False
            self._require(t)
            await asyncio.sleep(_POLL)
            self.tasks.take_up(t - 1)
        step, self.power.policy = found
        self._tell(t, step)
        return True

    def _require(self, t: int) -> None:
        """While the trainer lives there is something to wait for."""
        if reason := self.tasks.failures.get(_KIND):
            raise RunFailed(
                f"radio: round {t} needs the power policy after {self.steps_per_round * t} steps, but its trainer "
                f"failed: {reason}; a network trained before can be given as radio.power.policy"
            )

    def _tell(self, t: int, step: int | None) -> None:
        self.on_event({"event": "policy_in_use", "server_task": _KIND, "round": t, "step": step})
