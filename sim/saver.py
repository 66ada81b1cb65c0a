"""Checkpoints of a run while it goes on: when one is due, and what happens where it cannot be written."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from edge_server.state import Flat, OtherShape
from sim import checkpoints
from sim.blueprint import Blueprint
from sim.checkpoint_files import NotSaved
from sim.checkpoints import Pace, RunCheckpoints
from sim.faulty_edge import Disk
from sim.local import At
from sim.recorder import Recorder


class Saver:
    """Saves a run while it goes on: a checkpoint that cannot be written is named, and the run goes on."""

    def __init__(self, folder: Path, design: Blueprint, recorder: Recorder, on_note: Callable[[str], None]):
        self._checkpoints, self._recorder, self._on_note = RunCheckpoints(folder, design.scenario), recorder, on_note
        self._disk = Disk(design)
        self._pace = Pace(design.scenario.checkpoints, checkpoints.LEAST)
        self.due = self._pace.due

    def save(self, at: At, edge: Callable[[], Flat], users: Sequence[Flat]) -> None:
        """Edge, users and records together."""
        start = perf_counter()
        try:
            self._require_space(at)
            self._checkpoints.save(at, edge(), users, self._recorder.state(), self._recorder.tasks.state)
            self._recorder.events({"event": "checkpoint", **at._asdict()})
        except (NotSaved, OtherShape) as error:
            self._recorder.events({"event": "not_saved", **at._asdict(), "reason": str(error)})
            self._on_note(f"note: {error}")
        self._pace.took(perf_counter() - start)

    def _require_space(self, at: At) -> None:
        """Raises NotSaved where the scenario has a fault for it."""
        if strike := self._disk.full(at.round, at.slot):
            self._recorder.events(strike.event)
            raise NotSaved(f"the checkpoint of {at} could not be saved: the disk is full, a fault of the scenario")
