"""The radio cell: the users of a run as the edge sees them, slot by slot.

Turns what the rounds want (tensors in scenario order) into messages and back, refuses what is malformed, counts bytes.
The same code serves every transport: a line is anything that takes bytes to one user.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.answers import asking, round_end, welcome
from edge_server.attendance import Attendance, Kind, Said
from edge_server.judge import Judge, RunFailed
from edge_server.messages import (
    BadField,
    Feedback,
    Report,
    parse,
    read_feedback,
    read_join,
    read_report,
    read_tensors,
    require_hash,
    sendable,
)
from edge_server.participation import Mask
from edge_server.plan import RunPlan
from edge_server.post import Line, Post
from edge_server.record import ACKNOWLEDGEMENT, FEATURES, FEEDBACK, OUTPUTS, Event, Floats
from edge_server.turns import Turns
from protos import edge_pb2 as pb

Tensors = Sequence[Tensor | None]
"""One per user in scenario order; None for a user that is not heard in this slot."""


class Cell:
    """plan: who takes part. on_event: called with every event as it happens. stop: asked at the end of every slot;
    once it says yes, everybody is told to leave and `stopping` is set.

    sizes [4, K]: bytes of each user's messages in this slot, by phase as in `record.PHASES`. gradients [K]: whose
    acknowledgement carries one. answered [K]: when each user's feedback came, by `perf_counter`.
    """

    def __init__(self, plan: RunPlan, on_event: Callable[[Event], None], stop: Callable[[], bool]):
        self.plan = plan
        self.stopping = False
        users = len(plan.users)
        self.sizes = np.zeros((4, users), np.int64)
        self.gradients = np.zeros(users, bool)
        self.answered = np.full(users, np.nan)
        self._event = on_event
        self._stop = stop
        self._attendance = Attendance([user.name for user in plan.users], plan.slots)
        self.post = Post(plan)
        self._judge = Judge(plan, on_event)
        self._spoke: set[int] = set()
        self._left: set[int] = set()
        self._opened: dict[int, Tensor | BadField] = {}
        self._riding: dict[int, pb.Features] = {}
        self._done: asyncio.Future[None] | None = None
        self._failure: RunFailed | None = None
        self._turns = Turns(plan)
        self._expect("features", plan.first, 0)

    # ------------------------------------------------------------ what the transport calls

    def join(self, data: bytes, line: Line) -> int:
        """Take in the user whose Join is `data`; answers Welcome. Returns its index k. Raises Refused."""
        join = read_join(data, self.plan)
        k = self._attendance.join(join.user)
        if join.sends_ahead:
            self._attendance.ahead.add(k)
        self.post.connect(k, line)
        self._event({"event": "join", "user": join.user})
        self.post.send(k, welcome(self.plan, k, here=k in self._turns.here))
        if self._attendance.assembled:
            self._wake()
        return k

    def receive(self, k: int, data: bytes) -> None:
        """Take one message of user k. Raises OutOfOrder or Refused if it makes k's stream meaningless."""
        message = parse(data)
        if message.HasField("feedback"):
            self.answered[k] = perf_counter()
        complete = self._attendance.receive(k, message, len(data))
        if message.HasField("features"):
            self._opened[k] = self._judge.open(k, message.features)
        elif message.HasField("ahead"):
            self._riding[k] = message.ahead
        if message.HasField("leave"):
            require_hash(message.leave)
            self._left.add(k)
        if complete:
            self._wake()

    def lose(self, k: int, why: str) -> None:
        """User k's stream broke off: no slot can be whole without it, so the run fails with one line."""
        self._attendance.lose(k)
        if self._failure:
            return
        name = self.plan.users[k].name
        self._event({"event": "lost", "user": name, **self._judge.key, "reason": why})
        self.fail(RunFailed(f"user {name!r} was lost in {self._judge.where}: {why}"))

    def hang_up(self, k: int) -> None:
        """User k closed its stream: fine after its Leave, a loss before."""
        if k in self._left:
            self._attendance.lose(k)
        else:
            self.lose(k, "it closed its stream")

    def fail(self, failure: RunFailed) -> None:
        """End the run: whoever waits for users gets `failure`."""
        self._failure = self._failure or failure
        if self._done is not None and not self._done.done():
            self._done.set_exception(self._failure)

    # ------------------------------------------------------------ what the rounds call

    @property
    def wanted_to_stop(self) -> bool:
        """Somebody wants the run to stop after this slot."""
        return self._stop()

    def check(self) -> None:
        """Raises RunFailed if the run has failed while nobody waited for users."""
        if self._failure:
            raise self._failure

    @property
    def present(self) -> Mask:
        """[K]: who takes part in the slot that goes on."""
        return self._turns.mask

    async def assemble(self) -> None:
        """Wait until everybody has joined: rounds end for all, also for those who take no part. Raises RunFailed."""
        self.check()
        while not self._attendance.assembled:
            await self._wait()

    async def features(self, t: int, i: int) -> list[Tensor | None]:
        """Slot i's features, [B, ...feature_shape] per user in scenario order; None for a rejected user."""
        self._judge.at = (t, i)
        received = await self._features()
        self.sizes[:] = 0
        self.gradients[:] = False
        self._count(FEATURES)
        return received

    def usable(self, features: Tensors, outputs: Tensors, *, finite: bool) -> Tensors:
        """`features`, without those on which a finite model overflowed: their users are rejected for this slot.

        finite: all outputs are; then they can only be too large for the coding in which they travel.
        """
        if finite and not self.plan.narrows_outputs:
            return features
        fitting = [x is None or self._sendable(k, x) for k, x in enumerate(outputs)]
        return features if all(fitting) else [x if good else None for x, good in zip(features, fitting, strict=True)]

    def too_late(self, late: NDArray[np.bool_], what: str, seconds: Floats) -> None:
        """These users [K] are rejected for this slot; seconds [K]: when their `what` came."""
        for k in np.flatnonzero(late).tolist():
            self._judge.late(k, what, float(seconds[k]))

    async def feedback(self, t: int, i: int, outputs: Tensors) -> list[Feedback | None]:
        """Send `outputs`; what each user made of them, in scenario order."""
        self._send_outputs("feedback", t, i, outputs)
        received: list[Feedback | None] = [None] * len(outputs)
        answers = await self._gather()
        self._spoke = {said.k for said in answers}
        users = [self.plan.users[said.k] for said in answers]
        read = read_feedback([said.message.feedback for said in answers], users)
        for (k, _, _), feedback in zip(answers, read, strict=True):
            received[k] = self._judge.checked(k, feedback)
        self._count(FEEDBACK)
        self._judge.require_somebody(len(self._turns.here))
        return received

    def acknowledge(self, t: int, i: int, feature_gradients: Tensors = ()) -> None:
        """Close slot i of round t: gradients to those who want them, the reason to those who were rejected.

        Where nobody waits for a gradient this may come before the edge's own step. Whose features came with its
        feedback hears it with the next slot's outputs.
        """
        self.stopping = self._stop()
        here = self._turns.here
        self._ask_after(t, i)
        rejected = self._judge.take()
        for k in sorted(here):
            wanted = self.plan.users[k].trainable_front and k not in rejected
            gradient = feature_gradients[k] if wanted else None
            if gradient is not None:
                self._judge.require_fit(k, gradient)
            self.gradients[k] = gradient is not None
            message = self.post.closing(k, t, i, rejected.get(k), gradient)
            self._set_next(message.rejected.next if k in rejected else message.acknowledgement.next, k, t, i + 1)
            waits = k in self._riding and not self.stopping
            self.sizes[ACKNOWLEDGEMENT, k] = (self.post.hold if waits else self.post.send)(k, message)
        self._ask_others(here, t, i + 1)

    async def validation_features(self) -> list[Tensor | None]:
        """Validation features [V, ...feature_shape]; None for users that do not validate."""
        self._judge.at = (self._judge.at[0], self.plan.slots)
        return await self._features()

    async def reports(self, t: int, outputs: Tensors) -> list[Report | None]:
        """Send validation `outputs`; what the users report, in scenario order."""
        self._send_outputs("report", t, self.plan.slots, outputs)
        received: list[Report | None] = [None] * len(outputs)
        for k, message, _ in await self._gather():
            received[k] = self._judge.checked(k, read_report(message.report))
        self._judge.take()
        return received

    def end_round(self, t: int, *, stop: bool = False) -> None:
        """Tell everybody, away or not, that round t is over, and what comes next; who is away then waits.

        stop: the run is to stop here, as after its last round.
        """
        self.stopping = self.stopping or stop
        last = self.stopping or t + 1 == self.plan.rounds
        if not last:
            self._turns.begin(t + 1)
        self._expect("leave", 0, 0) if last else self._expect("features", t + 1, 0)
        for k in range(len(self.plan.users)):
            self.post.send(k, round_end(t, here=k in self._turns.here, last=last))

    async def farewell(self) -> list[bytes]:
        """Wait for every Leave; SHA-256 of each user's parameters, in scenario order."""
        hashes = [message.leave.parameters_sha256 for _, message, _ in await self._gather()]
        for k in range(len(self.plan.users)):
            self.post.send(k, pb.EdgeMessage(goodbye=pb.Goodbye()))
        return hashes

    # ------------------------------------------------------------ asking

    def _expect(self, kind: Kind, t: int, i: int, users: Iterable[int] | None = None) -> None:
        self._done = None
        if users is None:
            users = range(len(self.plan.users)) if kind == "leave" else self._turns.here
        self._attendance.expect((kind, t, i), users)

    def _ask_after(self, t: int, i: int) -> None:
        """Open what follows slot i before anybody is told, so that no answer comes too early."""
        if self.stopping:
            self._expect("leave", 0, 0)
        elif i + 1 < self.plan.slots:
            self._turns.go_on(t, i + 1)
            self._expect("features", t, i + 1)
        else:
            self._expect("features", t, self.plan.slots, [k for k in self._turns.so_far if self._validates(k)])

    def _set_next(self, answer: pb.Next, k: int, t: int, i: int) -> None:
        if self.stopping:
            answer.ask = pb.Next.LEAVE
        elif i < self.plan.slots and k in self._attendance.ahead and k in self._spoke:
            answer.ask = pb.Next.WAIT
        elif k in self._attendance.asked:
            answer.ask = pb.Next.FEATURES if i < self.plan.slots else pb.Next.VALIDATION
            answer.key.round, answer.key.slot = t, i
        else:
            answer.ask = pb.Next.WAIT

    def _validates(self, k: int) -> bool:
        return self.plan.users[k].validation_batch > 0

    def _ask_others(self, here: frozenset[int], t: int, i: int) -> None:
        """Ask those from whom something is wanted, and who were not `here` in the slot that is over."""
        for k in sorted(self._attendance.asked - here):
            message = asking()
            self._set_next(message.asked, k, t, i)
            self.post.send(k, message)

    async def _gather(self) -> list[Said]:
        self.check()
        if not self._attendance.complete:
            await self._wait()
        return self._attendance.answers

    def _count(self, phase: int) -> None:
        for k, _, size in self._attendance.answers:
            self.sizes[phase, k] = size

    def _wake(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        timer = loop.call_later(self.plan.patience, self._lose_patience)
        try:
            await self._done
        finally:
            timer.cancel()

    def _lose_patience(self) -> None:
        missing = self._attendance.absent or self._attendance.missing
        names, more = ", ".join(map(repr, missing[:5])), len(missing) - 5
        self.fail(
            RunFailed(
                f"no answer from {names}{f' and {more} more' if more > 0 else ''} in {self._judge.where} "
                f"within patience ({self.plan.patience:g} s); raise `patience` if users are just slow"
            )
        )

    # ------------------------------------------------------------ messages

    async def _features(self) -> list[Tensor | None]:
        received: list[Tensor | None] = [None] * len(self.plan.users)
        answers = await self._gather()
        self._open_riding()
        for k, _, _ in answers:
            received[k] = self._judge.checked(k, self._opened.pop(k))
        return received

    def _open_riding(self) -> None:
        """Small features that came with feedback are read together."""
        riding, self._riding = dict(sorted(self._riding.items())), {}
        specs = [self.plan.users[k].features for k in riding]
        read = read_tensors([said.features for said in riding.values()], specs, "features")
        self._opened.update(zip(riding, read, strict=True))

    def _sendable(self, k: int, outputs: Tensor) -> bool:
        return self._judge.checked(k, sendable(outputs, self.plan.users[k].codings.outputs)) is not None

    def _send_outputs(self, kind: Kind, t: int, i: int, outputs: Tensors) -> None:
        self._expect(kind, t, i, [k for k, tensor in enumerate(outputs) if tensor is not None])
        for k, tensor in enumerate(outputs):
            if tensor is not None:
                self.sizes[OUTPUTS, k] = self.post.serve(k, t, i, tensor)
        self.post.let_go()
