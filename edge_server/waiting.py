"""How long the edge waits for users: for all of them, or for enough; up to the slot's deadline, or its patience."""

import asyncio
from collections.abc import Callable

from edge_server.attendance import Attendance
from edge_server.judge import Judge, RunFailed
from edge_server.plan import RunPlan

_FAREWELL = 5.0
"""Seconds, at most, that a run which is to end waits for users: for those without whom slots may go on, and for all
once somebody has asked it to stop."""
_LOOK = 0.5
"""Seconds between two looks, while waiting, at whether the run is to stop."""


class Waiting:
    """Waits for what `attendance` gathers. stop: whether the run is to stop. lost: why users cannot be reached now."""

    def __init__(self, attendance: Attendance, plan: RunPlan, judge: Judge, stop: Callable[[], bool]):
        self._attendance, self._absence, self._judge = attendance, plan.absence, judge
        self.lost: dict[int, str] = {}
        self._patience, self._stop = plan.patience, stop
        self._until = 0.0
        self._over: Callable[[], bool] = lambda: False
        self._stopping_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        self._due: float | None = None
        self.failure: RunFailed | None = None

    # ------------------------------------------------------------ what happens meanwhile

    def fail(self, failure: RunFailed) -> None:
        """End the run: whoever waits, or will wait, gets `failure`."""
        self.failure = self.failure or failure
        if self._done is not None and not self._done.done():
            self._done.set_exception(self.failure)

    def wake(self) -> None:
        """Whoever waits goes on."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def look(self) -> None:
        """Whoever waits goes on, if it is time to."""
        if self._done is None:
            return
        if self._absence.policy == "fail" and self._overdue and not self._attendance.complete:
            late = ", ".join(map(repr, self._attendance.missing[:5]))
            limit = f"the slot's deadline ({self._absence.deadline:g} s)"
            advice = "raise `deadline`, or set on_user_failure to drop"
            self.fail(RunFailed(f"no answer from {late} in {self._judge.where} within {limit}; {advice}"))
        elif self._over():
            self.wake()

    # ------------------------------------------------------------ what the cell calls

    def begin_slot(self) -> None:
        """The slot's deadline counts from now on."""
        if self._absence.deadline is not None:
            self._due = asyncio.get_running_loop().time() + self._absence.deadline

    def end_slot(self) -> None:
        """What comes next has no deadline."""
        self._due = None

    def begin_farewell(self) -> None:
        """Users are asked to leave; who is lost has a little time."""
        self._stopping_since = None
        if self._absence.drops:
            self._due = asyncio.get_running_loop().time() + min(_FAREWELL, self._patience)

    def turn(self) -> None:
        """Something else is asked for."""
        self._done = None

    def check(self) -> None:
        """Raises RunFailed if the run has failed while nobody waited."""
        if self.failure:
            raise self.failure

    async def all_here(self) -> None:
        """Returns once everybody has joined. Raises RunFailed."""
        self.check()
        while not self._attendance.assembled:
            await self._wait(lambda: self._attendance.assembled)

    async def answers(self) -> None:
        """Returns once everybody who was asked has answered, or enough and the others need not be waited for.

        Raises RunFailed.
        """
        self.check()
        while not self._ready:
            await self._wait(lambda: self._ready)

    def why(self, k: int) -> str:
        """Why user k was not waited for."""
        if not self._absence.drops_in(self._judge.at[0]):
            return "as in the run that this one follows"
        if self._absence.deadline is None:
            return self.lost.get(k, "it came back when the slot had gone on")
        return self.lost.get(k) or f"beyond the slot's deadline ({self._absence.deadline:g} s)"

    # ------------------------------------------------------------ how long

    @property
    def _ready(self) -> bool:
        attendance, absence = self._attendance, self._absence
        if not absence.drops_in(self._judge.at[0]):
            return attendance.complete
        few = attendance.in_slot and attendance.answered < absence.min_users
        if few and (not attendance.complete or (attendance.what == "features" and attendance.away)):
            return False
        return attendance.complete or self._overdue or self._gone

    @property
    def _gone(self) -> bool:
        """Whoever has not answered cannot be reached."""
        attendance, lost = self._attendance, self.lost
        might_be = not attendance.leaving and len(attendance.asked) - attendance.answered <= len(lost)
        return might_be and attendance.unheard <= lost.keys()

    @property
    def _overdue(self) -> bool:
        return self._due is not None and asyncio.get_running_loop().time() >= self._due

    async def _wait(self, over: Callable[[], bool]) -> None:
        """Until somebody says that it is `over`, or patience ends."""
        loop = asyncio.get_running_loop()
        self._over = over
        self._done = loop.create_future()
        self._until = loop.time() + self._patience
        self._set_timer()
        passed = self._absence.drops and self._overdue
        due = None if self._due is None or passed else loop.call_at(max(self._due, loop.time()), self.look)
        try:
            await self._done
        finally:
            for timer in (self._timer, due):
                if timer is not None:
                    timer.cancel()

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(min(self._until, loop.time() + _LOOK), self._pass)

    def _pass(self) -> None:
        """Now and then, while it waits."""
        now = asyncio.get_running_loop().time()
        if self._stop():
            self._stopping_since = self._stopping_since or now
        if self._stopping_since is not None and now >= self._stopping_since + _FAREWELL:
            self._give_up()
        elif self._over():
            self.wake()
        elif now >= self._until:
            self._lose_patience()
        else:
            self._set_timer()

    def _give_up(self) -> None:
        missing = self._attendance.absent or self._attendance.missing
        names = ", ".join(map(repr, missing[:5]))
        self.fail(RunFailed(f"stopped while it waited for {names} in {self._judge.where}: that slot was given up"))

    def _lose_patience(self) -> None:
        lost = {self._attendance.users[k]: why for k, why in self.lost.items()}
        missing = self._attendance.absent or self._attendance.missing or [*lost]
        names, more = ", ".join(map(repr, missing[:5])), len(missing) - 5
        gone = next((name for name in missing if name in lost), None)
        advice = "raise `patience` if users are just slow"
        if gone is not None:
            advice = f"{gone!r} was lost and did not come back: {lost[gone]}"
        self.fail(
            RunFailed(
                f"no answer from {names}{f' and {more} more' if more > 0 else ''} in {self._judge.where} "
                f"within patience ({self._patience:g} s); {advice}"
            )
        )
