"""Which faults strike whom in which slot: dealt from the scenario's seed by name, so the same on every transport."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_server.record import Event
from sim.faults import ONCE, EdgeFault, Fault
from sim.report.records import read_events
from sim.scenario import Scenario
from sim.seeds import stream_seed

Coins = NDArray[np.bool_]


class Strike(NamedTuple):
    """A fault that struck: its kind, its slot, and the user; None for the edge."""

    kind: str
    round: int
    slot: int
    user: str | None

    @property
    def event(self) -> Event:
        """As events.jsonl has it."""
        who = {} if self.user is None else {"user": self.user}
        return {"event": "fault", "kind": self.kind, **who, "round": self.round, "slot": self.slot}


class Victim:
    """What happens to one user, or (None) to the edge. spent: what has struck already, and strikes once."""

    def __init__(self, scenario: Scenario, user: str | None, spent: frozenset[Strike]) -> None:
        self._user, self._slots, self._spent = user, scenario.slots, spent
        names = ("edge",) if user is None else ("user", user)
        self._faults = [
            (fault, stream_seed(scenario.seed, "fault", number, *names))
            for number, fault in enumerate(scenario.faults)
            if concerns(fault, user)
        ]
        self._round, self._due = -1, dict[int, list[Fault]]()

    def __len__(self) -> int:
        """How many faults may strike it."""
        return len(self._faults)

    def faults(self, round_: int, slot: int) -> list[Fault]:
        """What strikes in this slot, in the scenario's order."""
        if round_ != self._round:
            self._round, self._due = round_, self._of_round(round_)
        return self._due.get(slot, [])

    def strikes(self, round_: int, slot: int) -> list[Strike]:
        """The same, as they are told of."""
        return [Strike(fault.kind, round_, slot, self._user) for fault in self.faults(round_, slot)]

    def _of_round(self, round_: int) -> dict[int, list[Fault]]:
        due: dict[int, list[Fault]] = {}
        for fault, seed in self._faults:
            for slot in _slots(fault, seed, round_, self._slots):
                strike = Strike(fault.kind, round_, slot, self._user)
                if fault.kind not in ONCE or strike not in self._spent:
                    due.setdefault(slot, []).append(fault)
        return due


def concerns(fault: Fault, user: str | None) -> bool:
    """Whether the fault may strike this user, or (None) the edge."""
    if isinstance(fault, EdgeFault):
        return user is None
    return user is not None and fault.user in (None, user)


def _slots(fault: Fault, seed: int, round_: int, slots: int) -> Iterator[int]:
    if fault.at is not None:
        yield from [fault.at.slot] * (fault.at.round == round_)
    elif fault.rate is not None:
        coins: Coins = np.random.default_rng([seed, round_]).random(slots) < fault.rate
        yield from np.flatnonzero(coins).tolist()


def spent(folder: Path, first: int) -> frozenset[Strike]:
    """What has struck the run in `folder` in round `first` or later, by its events, and strikes once.

    Raises UnreadableRun.
    """
    told = (event for event in read_events(folder / "events.jsonl")[0] if event.get("event") == "fault")
    found = (Strike(event["kind"], event["round"], event["slot"], event.get("user")) for event in told)
    return frozenset(strike for strike in found if strike.kind in ONCE and strike.round >= first)
