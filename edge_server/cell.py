"""The radio cell: the users of a run as the edge sees them, slot by slot.

Turns what the rounds want (tensors in scenario order) into messages and back, refuses what is malformed, counts bytes.
The same code serves every transport: a line is anything that takes bytes to one user.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_server.absence import AWAY, HERE, NO_ANSWER, NO_FEATURES, Place
from edge_server.answers import leave, round_end, welcome
from edge_server.asking import Asking
from edge_server.attendance import Attendance, Kind, OutOfOrder, Receipt, Refused, Said
from edge_server.conversation import Conversation, Line
from edge_server.door import Door
from edge_server.judge import Forgotten, Judge, RunFailed
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
from edge_server.post import Post
from edge_server.record import ACKNOWLEDGEMENT, FEATURES, FEEDBACK, OUTPUTS, Event, Floats
from edge_server.tally import Tally
from edge_server.waiting import Waiting
from protos import edge_pb2 as pb

_OVER = "the run ended before this process could take part in a slot"
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
        self.post, self.door = Post(plan), Door()
        self._judge = Judge(plan, on_event)
        self._judge.at = (plan.first, plan.first_slot)
        self._left: set[int] = set()
        self._lost: dict[int, str] = {}
        self._expelled: dict[int, str] = {}
        self._opened: dict[int, Tensor | BadField] = {}
        self._riding: dict[int, pb.Features] = {}
        self.waiting = Waiting(self._attendance, plan, self._judge, self._lost, stop)
        self.left_out = np.full(users, HERE, np.uint8)
        self._asking = Asking(plan, self._attendance, self._judge, self.post, self.waiting, self._lost)

    # ------------------------------------------------------------ what the transport calls

    def join(self, data: bytes, line: Line) -> int:
        """Take in the user whose Join is `data`; answers Welcome. Returns its index k. Raises Refused."""
        join = read_join(data, self.plan)
        k = self._attendance.find(join.user)
        if k in self.post.conversations:
            self._return(k, join, line)
            return k
        if join.heard:
            raise Refused("FAILED_PRECONDITION", f"user {join.user!r} comes back, but it was never here")
        self._attendance.join(k)
        if join.sends_ahead:
            self._attendance.ahead.add(k)
        self.post.conversations[k] = Conversation(join, line)
        self.tell({"event": "join", "user": join.user})
        message = welcome(self.plan, k)
        self._asking.word(message.welcome.next, k, self.plan.first, self.plan.first_slot)
        self.post.send(k, message)
        if self._attendance.assembled:
            self.waiting.wake()
        return k

    def _return(self, k: int, join: pb.Join, line: Line) -> None:
        """User k comes back. Raises Refused."""
        if k in self._expelled:
            raise Refused("FAILED_PRECONDITION", f"user {join.user!r} may not come back: {self._expelled[k]}")
        if join.sends_ahead != (k in self._attendance.ahead):
            raise Refused("INVALID_ARGUMENT", f"user {join.user!r} comes back with another sends_ahead")
        if self.door.take_back(k, join, line):
            return
        if join.process > self.post.conversations[k].process:
            self._begin_anew(k, join, line)
        else:
            self._take_back(k, join, line)

    def _begin_anew(self, k: int, join: pb.Join, line: Line) -> None:
        """A later process of user k, which has forgotten what the last one knew, is to be let in. Raises Refused."""
        if self.door.coming.get(k) != join.process:
            raise Refused("FAILED_PRECONDITION", f"user {join.user!r} begins anew, but was not told to")
        if self._attendance.leaving:
            raise Refused("FAILED_PRECONDITION", _OVER)
        if (join.begins.round, join.begins.slot) > self._judge.at:
            raise Refused("INVALID_ARGUMENT", f"user {join.user!r} begins with its state of a slot that is to come")
        if old := self.post.conversations[k].replaced_by(join):
            self.lose(k, "another process of its own took its place", old)
        self.door.knock(k, join, line)
        self._require_hope()
        if self._asking.lacks(k):
            self._let_in(k, self._attendance.where)
            self._asking.ask_anew(k)

    def _let_in(self, k: int, at: Place) -> None:
        """User k, at the door, takes part from slot `at` on."""
        conversation, back = self.door.let_in(k, at)
        for known in (self._riding, self._opened, self._lost):
            known.pop(k, None)
        self._attendance.renew(k)
        self.post.begin(k, conversation)
        message = welcome(self.plan, k)
        message.welcome.next.ask = pb.Next.WAIT
        self.post.send(k, message)
        (t, i), (of_t, of_i) = at, back.of
        place = {"round": t, "slot": i, "of_round": of_t, "of_slot": of_i}
        self.tell({"event": "began_anew", "user": self.plan.users[k].name, **place})

    def _open_door(self, at: Place, without: frozenset[int] = frozenset()) -> None:
        """Lets in who waits, before slot `at`; without: those of whom something is still to be told."""
        for k in self.door.here:
            if k not in without:
                self._let_in(k, at)

    def _take_back(self, k: int, join: pb.Join, line: Line) -> None:
        """User k goes on over another stream. Raises Refused."""
        missed = self.post.conversations[k].resume(join, line)
        self._attendance.join(k)
        self._lost.pop(k, None)
        self._asking.make_up({k})
        self.tell({"event": "returned", "user": join.user, **self._judge.key, "missed": missed})

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
        self._keep(k, message)
        if receipt == "last" or self.plan.absence.drops:
            self.waiting.look()

    def _leave_out(self, k: int, receipt: Receipt, message: pb.UserMessage) -> None:
        if receipt == "late":
            self.post.conversations[k].prove_asked()
            if message.HasField("features"):
                self._keep(k, message)
        name = "duplicate" if receipt == "again" else "came_late"
        self.tell({"event": name, "user": self.plan.users[k].name, **self._judge.key})
        self._asking.make_up({k})

    def _keep(self, k: int, message: pb.UserMessage) -> None:
        """What came with a message that counts, until its turn comes."""
        if message.HasField("feedback"):
            self.answered[k] = perf_counter()
        if message.HasField("features"):
            self._opened[k] = self._judge.open(k, message.features)
        elif message.HasField("ahead"):
            self._riding[k] = message.ahead
        if message.HasField("leave"):
            self._left.add(k)

    def _proves(self, k: int, message: pb.UserMessage) -> bool:
        """Whether user k cannot have said this before it heard the last thing that it was told."""
        if not message.HasField("features") or message.features.key.slot in (0, self.plan.slots):
            return True
        return k not in self._attendance.ahead

    def lose(self, k: int, why: str, line: Line, *, for_good: bool = False) -> None:
        """User k's stream broke off: the run waits for it to come back on another one, or fails with one line.

        for_good: it may not come back. A line that another one has taken the place of loses nobody.
        """
        if self.door.lose(k, line):
            self._expelled |= {k: why} if for_good else {}
            return
        conversation = self.post.conversations[k]
        if not conversation.is_on(line):
            return
        conversation.break_off()
        self._attendance.lose(k)
        if self.waiting.failure:
            return
        name = self.plan.users[k].name
        self.tell({"event": "lost", "user": name, **self._judge.key, "reason": why})
        if for_good:
            self._expelled[k] = why
        self._lost[k] = why
        if self.plan.absence.policy == "fail" or (for_good and not self.plan.absence.drops):
            self.fail(RunFailed(f"user {name!r} was lost in {self._judge.where}: {why}"))
        else:
            self._asking.make_up(self._attendance.present)
            self._require_hope()
            self.waiting.look()

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
        """Whether this process of a user, which has forgotten how its last slots went, may come: the run goes on.

        Otherwise the run fails, to be taken back. Raises Refused where nobody is to come any more.
        """
        drops = self.plan.absence.drops_in(self._judge.at[0])
        if drops and self._attendance.leaving:
            raise Refused("FAILED_PRECONDITION", _OVER)
        k = self._attendance.find(name)
        if not drops or k in self._asking.hopes_for:
            self.fail(Forgotten(f"user {name!r} came back as a new process"))
            return False
        self.door.coming[k] = process
        return True

    @property
    def coming(self) -> str:
        """A user whose process comes anew, and is not let in yet; empty if there is none."""
        return next((self.plan.users[k].name for k in self.door.coming), "")

    def _require_hope(self) -> None:
        """Fails, if the slot waits for what somebody at the door has forgotten."""
        for k in filter(self.door.waits, self._asking.hopes_for):
            self.fail(Forgotten(f"user {self.plan.users[k].name!r} came back as a new process"))

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
        self._require_hope()
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
            self._open_door((t, i + 1), without=here)
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
            return (self.post.hold if k in self._riding else self.post.send)(k, message)
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
            self._open_door((t + 1, 0))
        last = self._asking.after_round(t)
        for k in range(len(self.plan.users)):
            message = round_end(t, here=k in self._asking.turns.here, last=last)
            self._asking.recall(message.round_end.next, k, t + 1, 0)
            self.post.send(k, message)

    async def farewell(self) -> list[bytes]:
        """Wait for every Leave; SHA-256 of each user's parameters, in scenario order; empty of one that is lost."""
        self.door.close(Refused("FAILED_PRECONDITION", _OVER))
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
        self._open_riding()
        for k, _, _ in answers:
            received[k] = self._judge.features(k, self._opened.pop(k))
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
        self._asking.expect(kind, t, i, [k for k, tensor in enumerate(outputs) if tensor is not None])
        for k, tensor in enumerate(outputs):
            if tensor is not None:
                self.sizes[OUTPUTS, k] = self.post.serve(k, t, i, tensor)
        self.post.let_go()
