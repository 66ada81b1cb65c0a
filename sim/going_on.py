"""A run taken back to its last whole checkpoint: by `equiran resume`, or by the run itself when a process dies."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from time import monotonic, sleep

from edge_server.boundary import STRIKES
from edge_server.judge import RunFailed
from edge_server.state import OtherShape
from sim.attendance_file import FILE, read_log
from sim.blueprint import Blueprint
from sim.checkpoint_files import NoCheckpoint
from sim.checkpoints import RunCheckpoints, Saved
from sim.fault_schedule import spent
from sim.local import START, At, ProcessLost
from sim.reach import HeadLost
from sim.recorder import Recorder, other_versions
from sim.report.files import UnreadableRun
from sim.scenario import Scenario
from sim.spools import SpoolDamaged

_TRIES = 5
"""How often in a row a run is taken up at the same place."""
_PAUSE, _GROWTH, _LONGEST = 0.5, 3.0, 20.0
"""Seconds before a run is taken up, how they grow while it gets no further, and what they do not exceed."""
_LOOK = 0.1

OnNote = Callable[[str], None]
Back = Callable[[ProcessLost], Collection[At] | None]
"""The places, if not any, to which a run can go that lost a process."""


class CannotGoOn(Exception):
    """A run's records or checkpoints are not what they were; one line."""


def anywhere(_lost: ProcessLost) -> None:
    """Wherever a run was saved: all that it needs is in its directory."""


def saved_last(
    folder: Path, scenario: Scenario, on_damage: OnNote, among: Collection[At] | None = None
) -> Saved | None:
    """The last whole checkpoint, None before the first. among: places that will do; None: all. Raises CannotGoOn."""
    with _usable():
        return RunCheckpoints(folder, scenario).newest(len(scenario.users), on_damage, among)


def places_saved(folder: Path, scenario: Scenario) -> list[At]:
    """Where the run in `folder` can go on, the last place first. Raises CannotGoOn."""
    with _usable():
        return RunCheckpoints(folder, scenario).places(lambda _damage: None)


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except NoCheckpoint as error:
        advice = "; set it back, or start a new run with it" if "is not of this run" in str(error) else ""
        raise CannotGoOn(f"{error}{advice}") from error


def taken_back(
    folder: Path, name: str, design: Blueprint, on_note: OnNote, among: Collection[At] | None = None
) -> tuple[Blueprint, Recorder]:
    """What goes on from the last whole checkpoint, or from the start; records that are further are cut.

    among: places that will do; None: all. Raises CannotGoOn, UnreadableRun.
    """
    notes: list[str] = []
    saved = saved_last(folder, design.scenario, notes.append, among)
    design = attended(folder, _from(design, saved))
    design = replace(design, spent=spent(folder, design.plan.first))
    try:
        records, task = (saved.records, saved.task) if saved else (None, None)
        recorder = Recorder(folder, name, design, records, task, goes_on=True)
    except (SpoolDamaged, OtherShape) as error:
        raise CannotGoOn(f"{folder}: {error}") from error
    for note in [*notes, *other_versions(saved.versions if saved else {})]:
        recorder.events({"event": "checkpoint_note", "text": note})
        on_note(f"note: {note}")
    return design, recorder


def _from(design: Blueprint, saved: Saved | None) -> Blueprint:
    if saved is None:
        return replace(design, plan=replace(design.whole.plan, last=design.plan.last), state=None)
    before, so_far = (tuple(strikes) for strikes in saved.state.edge[STRIKES].tolist())
    plan = replace(design.plan, first=saved.at.round, first_slot=saved.at.slot, struck=(before, so_far))
    return replace(design, plan=plan, state=saved.state)


def attended(folder: Path, design: Blueprint) -> Blueprint:
    """With what is known of who was left out, where slots go on without users. Raises UnreadableRun."""
    plan, absence = design.plan, design.plan.absence
    if not absence.drops:
        return design
    log = read_log(folder / FILE, [user.name for user in plan.users], plan.slots)
    return replace(design, plan=replace(plan, absence=replace(absence, log=log)))


def begins(design: Blueprint) -> At:
    """Where it goes on, or begins."""
    return At(design.plan.first, design.plan.first_slot)


class Recovery:
    """Takes a run up again that lost a process: never a process alone, which would have forgotten what it knew.

    stop: somebody wants the run to stop.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        design: Blueprint,
        on_note: OnNote,
        stop: Callable[[], bool],
        back: Back = anywhere,
    ) -> None:
        self._folder, self._name, self._design = folder, name, design
        self._on_note, self._stop, self._back = on_note, stop, back
        self._tries, self._at = 0, begins(design)

    def after(self, lost: ProcessLost, recorder: Recorder) -> tuple[Blueprint, Recorder]:
        """What goes on, after a `pause`, from where it was saved last. `recorder`: of the run up to now.

        Raises `lost` where the run ends by it: as its scenario says, at somebody's wish, with its cluster, or once it
        gets no further; RunFailed where no checkpoint is whole, CannotGoOn where the records are not.
        """
        if self._design.scenario.on_user_failure == "fail" or isinstance(lost, HeadLost) or self._stop():
            raise lost
        among = self._back(lost)
        at = self._saved_at(lost, among)
        self._tries, self._at = (self._tries if at == self._at else 0) + 1, at
        if self._tries > _TRIES:
            raise ProcessLost(f"{lost}; it got no further in {_TRIES} tries from {at}") from lost
        recorder.leave()
        design, recorder = self._taken_back(lost, among)
        recorder.events({"event": "recovered", "reason": str(lost), **at._asdict(), "tries": self._tries})
        self._on_note(f"note: {self._name}: {lost}; goes on from {at}")
        return design, recorder

    def _saved_at(self, lost: ProcessLost, among: Collection[At] | None) -> At:
        try:
            saved = saved_last(self._folder, self._design.scenario, lambda _note: None, among)
        except CannotGoOn as error:
            raise RunFailed(f"{lost}; {error}") from error
        return START if saved is None else saved.at

    def _taken_back(self, lost: ProcessLost, among: Collection[At] | None) -> tuple[Blueprint, Recorder]:
        try:
            return taken_back(self._folder, self._name, self._design, self._on_note, among)
        except UnreadableRun as error:
            raise CannotGoOn(f"{lost}; {error}") from error

    def pause(self) -> None:
        """Longer each time, and not equally long for all who lost the same machine; over at once when asked to stop."""
        most = min(_PAUSE * _GROWTH ** (self._tries - 1), _LONGEST)
        until = monotonic() + most * SystemRandom().uniform(0.5, 1.0)
        while monotonic() < until and not self._stop():
            sleep(_LOOK)
