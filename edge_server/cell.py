"""The radio cell: the users of a run as the edge sees them, slot by slot.

Turns what the rounds want (tensors in scenario order) into messages and back, refuses what is malformed, counts bytes.
The same code serves every transport: a line is anything that takes bytes to one user.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.absence import AWAY, HERE, NO_ANSWER, NO_FEATURES
from edge_server.answers import leave, round_end
from edge_server.asking import Asking
from edge_server.attendance import Attendance, Kind, OutOfOrder, Receipt, Said
from edge_server.comings import Comings
from edge_server.conversation import Line
from edge_server.door import Door
from edge_server.judge import Judge, RunFailed
from edge_server.kept import Kept
from edge_server.messages import (
    Feedback,
    Report,
    parse,
    read_feedback,
    read_report,
    require_hash,
    sendable,
)
from edge_server.participation import Mask
from edge_server.plan import RunPlan
from edge_server.post import Post
from edge_server.record import ACKNOWLEDGEMENT, FEATURES, FEEDBACK, OUTPUTS, Event, Floats
from edge_server.tally import Tally
from edge_server.waiting import Waiting
from protos import edge_pb2 as pb

_CODES = {"features": NO_FEATURES, "feedback": NO_ANSWER, "report": NO_ANSWER}

Tensors = Sequence[Tensor | None]
"""One per user in scenario order; None for a user that is not heard in this slot."""


class Cell:
    """plan: who takes part. on_event: called with every event as it happens. stop: asked at the end of every slot;
    once it says yes, everybody is told to leave and `stopping` is set.

    sizes [4, K]: bytes of each user's messages in this slot, by phase as in `record.PHASES`. gradients [K]: whose
    acknowledgement carries one. answered [K]: when each user's feedback came, by `perf_counter`. left_out [K]: whom the
    slot, or the validation, went on without, as in `absence`. tally: of feedback.
    """

    def __init__(self, plan: RunPlan, on_event: Callable[[Event], None], stop: Callable[[], bool]):
        self.plan = plan
        users = len(plan.users)
        self.sizes = np.zeros((4, users), np.int64)
        self.gradients = np.zeros(users, bool)
        self.answered = np.full(users, np.nan)
        self.tally = Tally(users)
        self.tell = on_event
        self._stop = stop
        self._attendance = Attendance([user.name for user in plan.users], plan.slots)
        self.post = Post(plan)
        self._judge = Judge(plan, on_event)
        self._judge.at = (plan.first, plan.first_slot)
        self._left: set[int] = set()
        self.waiting = Waiting(self._attendance, plan, self._judge, stop)
        self.left_out = np.full(users, HERE, np.uint8)
        parts = self._attendance, self._judge, self.post, self.waiting
        self._asking = Asking(plan, *parts)
        self._kept = Kept(plan, self._judge)
        self._comings = Comings(plan, *parts, self._asking, self._kept, on_event)

    # ------------------------------------------------------------ what the transport calls

    def join(self, data: bytes, line: Line) -> int:
        """Take in the user whose Join is `data`; answers Welcome. Returns its index k. Raises Refused."""
        return self._comings.join(data, line)

    def receive(self, k: int, data: bytes) -> None:
        """Take one message of user k. Raises OutOfOrder or Refused if it makes k's stream meaningless."""
        message = parse(data)
        if self.door.waits(k):
            raise OutOfOrder(f"user {self.plan.users[k].name!r} speaks before it is let in")
        if message.HasField("leave") and self._attendance.leaving:
            require_hash(message.leave)
        conversation = self.post.conversations[k]
        receipt = self._attendance.receive(k, message, len(data))
        conversation.taken += receipt != "again"
        if message.HasField("feedback"):
            self.tally.add(k, receipt)
        if receipt in ("again", "late"):
            self._leave_out(k, receipt, message)
            return
        if self._proves(k, message):
            conversation.prove()
        if message.HasField("feedback"):
            self.answered[k] = perf_counter()
        if message.HasField("leave"):
            self._left.add(k)
        self._kept.keep(k, message)
        if receipt == "last" or self.plan.absence.drops:
            self.waiting.look()

    def _leave_out(self, k: int, receipt: Receipt, message: pb.UserMessage) -> None:
        if receipt == "late":
            self.post.conversations[k].prove_asked()
            if message.HasField("features"):
                self._kept.keep(k, message)
        name = "duplicate" if receipt == "again" else "came_late"
        self.tell({"event": name, "user": self.plan.users[k].name, **self._judge.key})
        self._asking.make_up({k})

    def _proves(self, k: int, message: pb.UserMessage) -> bool:
        """Whether user k cannot have said this before it heard the last thing that it was told."""
        if not message.HasField("features") or message.features.key.slot in (0, self.plan.slots):
            return True
        return k not in self._attendance.ahead or self.post.conversations[k].told_of_bad_features

    def lose(self, k: int, why: str, line: Line, *, for_good: bool = False) -> None:
        """User k's stream broke off; see `Comings.lose`."""
        self._comings.lose(k, why, line, for_good=for_good)

    def hang_up(self, k: int, line: Line) -> None:
        """User k closed its stream: fine after its Leave, a loss before."""
        if k not in self._left:
            self.lose(k, "it closed its stream", line)

    def fail(self, failure: RunFailed) -> None:
        """End the run: whoever waits for users gets `failure`."""
        self.waiting.fail(failure)

    # ------------------------------------------------------------ what the rounds call

    @property
    def stopping(self) -> bool:
        """Everybody was told to leave."""
        return self._asking.stopping

    def takes_anew(self, name: str, process: int) -> bool:
        """Whether this process of a user, which has forgotten its last slots, may come; see `Comings.takes_anew`."""
        return self._comings.takes_anew(name, process)

    @property
    def coming(self) -> str:
        """A user whose process comes anew, and is not let in yet; empty if there is none."""
        return self._comings.coming

    @property
    def door(self) -> Door:
        """Where users wait whose process began anew."""
        return self._comings.door

    @property
    def wanted_to_stop(self) -> bool:
        """Somebody wants the run to stop after this slot."""
        return self._stop()

    def check(self) -> None:
        """Raises RunFailed if the run has failed while nobody waited for users."""
        self.waiting.check()

    @property
    def strikes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """[2, K]: how often each user was rejected for what it sent, before this round and so far."""
        return tuple(self._judge.before.tolist()), tuple(self._judge.strikes.tolist())

    @property
    def missed(self) -> Mask:
        """[K]: who takes part in the slot that goes on, and did not answer in time."""
        return self.left_out >= NO_FEATURES

    @property
    def present(self) -> Mask:
        """[K]: who takes part in the slot that goes on."""
        return self._asking.turns.mask

    async def assemble(self) -> None:
        """Wait until everybody has joined: rounds end for all, also for those who take no part. Raises RunFailed."""
        await self.waiting.all_here()

    async def features(self, t: int, i: int) -> list[Tensor | None]:
        """Slot i's features, [B, ...feature_shape] per user in scenario order; None for a rejected user."""
        self._judge.at = (t, i)
        self.left_out[:] = HERE
        self.waiting.begin_slot()
        received = await self._features()
        self.left_out[self._asking.turns.away] = AWAY
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
        self._comings.require_hope()
        received: list[Feedback | None] = [None] * len(outputs)
        answers = await self._gather()
        self._asking.spoke = {said.k for said in self._attendance.answers}
        users = [self.plan.users[said.k] for said in answers]
        read = read_feedback([said.message.feedback for said in answers], users)
        for (k, _, _), feedback in zip(answers, read, strict=True):
            received[k] = self._judge.feedback(k, feedback)
        self._count(FEEDBACK)
        self.waiting.end_slot()
        self._judge.require_somebody(len(self._asking.turns.here))
        return received

    def acknowledge(self, t: int, i: int, feature_gradients: Tensors = ()) -> None:
        """Close slot i of round t: gradients to those who want them, the reason to those who were rejected.

        Where nobody waits for a gradient this may come before the edge's own step. Whose features came with its
        feedback hears it with the next slot's outputs. Sizes are those of a run that goes on: a stopped one may.
        """
        self._asking.stopping = self._stop()
        here = self._asking.turns.here
        if not self.stopping:
            self._comings.open_door((t, i + 1), without=here)
        self._asking.after_slot(t, i)
        rejected = self._judge.take()
        for k in sorted(here):
            wanted = self.plan.users[k].trainable_front and k not in rejected
            gradient = feature_gradients[k] if wanted else None
            if gradient is not None:
                self._judge.require_fit(k, gradient)
            self.gradients[k] = gradient is not None
            message = self.post.closing(k, t, i, rejected.get(k), gradient)
            answer = message.rejected.next if k in rejected else message.acknowledgement.next
            self._asking.word(answer, k, t, i + 1)
            self.sizes[ACKNOWLEDGEMENT, k] = self._close(k, message, answer)
        self._asking.others(here, t, i + 1)

    def _close(self, k: int, message: pb.EdgeMessage, answer: pb.Next) -> int:
        """Bytes of what ends a slot for user k, with its `answer` for a run that goes on."""
        if not self.stopping:
            return (self.post.hold if self._kept.rides(k) else self.post.send)(k, message)
        size = message.ByteSize()
        leave(answer)
        self.post.send(k, message)
        return size

    async def validation_features(self) -> list[Tensor | None]:
        """Validation features [V, ...feature_shape]; None for users that do not validate."""
        self._judge.at = (self._judge.at[0], self.plan.slots)
        self.left_out[:] = HERE
        self.left_out[self._asking.not_validating()] = AWAY
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
        self._asking.stopping = self.stopping or stop
        if not self.stopping and t + 1 < self.plan.rounds:
            self._comings.open_door((t + 1, 0))
        last = self._asking.after_round(t)
        for k in range(len(self.plan.users)):
            message = round_end(t, here=k in self._asking.turns.here, last=last)
            self._asking.recall(message.round_end.next, k, t + 1, 0)
            self.post.send(k, message)

    async def farewell(self) -> list[bytes]:
        """Wait for every Leave; SHA-256 of each user's parameters, in scenario order; empty of one that is lost."""
        self._comings.close()
        self.waiting.begin_farewell()
        hashes = [b""] * len(self.plan.users)
        for k, message, _ in await self._gather():
            hashes[k] = message.leave.parameters_sha256
        for k in range(len(self.plan.users)):
            self.post.send(k, pb.EdgeMessage(goodbye=pb.Goodbye()))
        return hashes

    # ------------------------------------------------------------ messages

    async def _gather(self) -> list[Said]:
        await self.waiting.answers()
        self._attendance.closed = True
        without = frozenset(self._attendance.excuse()) if not self._attendance.complete else self._without_again()
        for k in without:
            self._go_on_without(k, self.waiting.why(k))
        return [said for said in self._attendance.answers if said.k not in without]

    def _without_again(self) -> frozenset[int]:
        """Who has answered now, and had not when this slot was gone through before."""
        if self._attendance.leaving:
            return frozenset()
        return self.plan.absence.log.left_out(*self._judge.at, _CODES[self._attendance.what])

    def _go_on_without(self, k: int, why: str) -> None:
        """The slot, or the round's validation, goes on without user k."""
        what = self._attendance.what
        self.left_out[k] = _CODES.get(what, HERE)
        if self._attendance.in_slot:
            self._judge.missed(k, what, why)

    def _count(self, phase: int) -> None:
        for k, _, size in self._attendance.answers:
            self.sizes[phase, k] = size
        self.sizes[phase, self.missed] = 0

    async def _features(self) -> list[Tensor | None]:
        received: list[Tensor | None] = [None] * len(self.plan.users)
        answers = await self._gather()
        self._kept.open()
        for k, _, _ in answers:
            received[k] = self._judge.features(k, self._kept.take(k))
        return received

    def _sendable(self, k: int, outputs: Tensor) -> bool:
        return self._judge.checked(k, sendable(outputs, self.plan.users[k].codings.outputs)) is not None

    def _send_outputs(self, kind: Kind, t: int, i: int, outputs: Tensors) -> None:
        self._asking.expect(kind, t, i, [k for k, tensor in enumerate(outputs) if tensor is not None])
        for k, tensor in enumerate(outputs):
            if tensor is not None:
                self.sizes[OUTPUTS, k] = self.post.serve(k, t, i, tensor)
        self.post.let_go()
