"""How users come and go: they join, are lost, come back over another stream, or anew as another process."""

from collections.abc import Callable

from edge_server.absence import Place
from edge_server.answers import welcome
from edge_server.asking import Asking
from edge_server.attendance import Attendance, Refused
from edge_server.conversation import Conversation, Line
from edge_server.door import Door
from edge_server.judge import Forgotten, Judge, RunFailed
from edge_server.kept import Kept
from edge_server.messages import read_join
from edge_server.plan import RunPlan
from edge_server.post import Post
from edge_server.record import Event
from edge_server.waiting import Waiting
from protos import edge_pb2 as pb

_OVER = "the run ended before this process could take part in a slot"


class Comings:
    """door: where users wait whose process began anew. tell: called with every event as it happens."""

    def __init__(
        self,
        plan: RunPlan,
        attendance: Attendance,
        judge: Judge,
        post: Post,
        waiting: Waiting,
        asking: Asking,
        kept: Kept,
        tell: Callable[[Event], None],
    ):
        self._plan, self._attendance, self._judge, self._post = plan, attendance, judge, post
        self._waiting, self._asking, self._kept, self._tell = waiting, asking, kept, tell
        self._expelled: dict[int, str] = {}
        self.door = Door()

    def join(self, data: bytes, line: Line) -> int:
        """Take in the user whose Join is `data`; answers Welcome. Returns its index k. Raises Refused."""
        join = read_join(data, self._plan)
        k = self._attendance.find(join.user)
        if k in self._post.conversations:
            self._return(k, join, line)
            return k
        if join.heard:
            raise Refused("FAILED_PRECONDITION", f"user {join.user!r} comes back, but it was never here")
        self._attendance.join(k)
        if join.sends_ahead:
            self._attendance.ahead.add(k)
        self._post.conversations[k] = Conversation(join, line)
        self._tell({"event": "join", "user": join.user})
        message = welcome(self._plan, k)
        self._asking.word(message.welcome.next, k, self._plan.first, self._plan.first_slot)
        self._post.send(k, message)
        if self._attendance.assembled:
            self._waiting.wake()
        return k

    def _return(self, k: int, join: pb.Join, line: Line) -> None:
        """User k comes back. Raises Refused."""
        if k in self._expelled:
            raise Refused("FAILED_PRECONDITION", f"user {join.user!r} may not come back: {self._expelled[k]}")
        if join.sends_ahead != (k in self._attendance.ahead):
            raise Refused("INVALID_ARGUMENT", f"user {join.user!r} comes back with another sends_ahead")
        if self.door.take_back(k, join, line):
            return
        if join.process > self._post.conversations[k].process:
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
        if old := self._post.conversations[k].replaced_by(join):
            self.lose(k, "another process of its own took its place", old)
        self.door.knock(k, join, line)
        self.require_hope()
        if self._asking.lacks(k):
            self._let_in(k, self._attendance.where)
            self._asking.ask_anew(k)

    def _let_in(self, k: int, at: Place) -> None:
        """User k, at the door, takes part from slot `at` on."""
        conversation, back = self.door.let_in(k, at)
        self._kept.forget(k)
        self._waiting.lost.pop(k, None)
        self._attendance.renew(k)
        self._post.begin(k, conversation)
        message = welcome(self._plan, k)
        message.welcome.next.ask = pb.Next.WAIT
        self._post.send(k, message)
        (t, i), (of_t, of_i) = at, back.of
        place = {"round": t, "slot": i, "of_round": of_t, "of_slot": of_i}
        self._tell({"event": "began_anew", "user": self._plan.users[k].name, **place})

    def open_door(self, at: Place, without: frozenset[int] = frozenset()) -> None:
        """Lets in who waits, before slot `at`; without: those of whom something is still to be told."""
        for k in self.door.here:
            if k not in without:
                self._let_in(k, at)

    def _take_back(self, k: int, join: pb.Join, line: Line) -> None:
        """User k goes on over another stream. Raises Refused.

        It may be back before its last stream is known to be over: that one is lost now, and counted as such.
        """
        unnoticed = self._post.conversations[k].is_here
        missed = self._post.conversations[k].resume(join, line)
        if unnoticed:
            self._report(k, "its next stream came first", fails=self._plan.absence.policy == "fail")
        self._attendance.join(k)
        self._waiting.lost.pop(k, None)
        self._asking.make_up({k})
        self._tell({"event": "returned", "user": join.user, **self._judge.key, "missed": missed})

    def lose(self, k: int, why: str, line: Line, *, for_good: bool = False) -> None:
        """User k's stream broke off: the run waits for it to come back on another one, or fails with one line.

        for_good: it may not come back. A line that another one has taken the place of loses nobody.
        """
        if self.door.lose(k, line):
            self._expelled |= {k: why} if for_good else {}
            return
        conversation = self._post.conversations[k]
        if not conversation.is_on(line):
            return
        conversation.break_off()
        self._attendance.lose(k)
        if self._waiting.failure:
            return
        fails = self._plan.absence.policy == "fail" or (for_good and not self._plan.absence.drops)
        self._report(k, why, fails)
        if for_good:
            self._expelled[k] = why
        self._waiting.lost[k] = why
        if not fails:
            self._asking.make_up(self._attendance.present)
            self.require_hope()
            self._waiting.look()

    def _report(self, k: int, why: str, fails: bool) -> None:
        """User k is lost. fails: that ends the run."""
        name = self._plan.users[k].name
        self._tell({"event": "lost", "user": name, **self._judge.key, "reason": why})
        if fails:
            self._waiting.fail(RunFailed(f"user {name!r} was lost in {self._judge.where}: {why}"))

    def takes_anew(self, name: str, process: int) -> bool:
        """Whether this process of a user, which has forgotten how its last slots went, may come: the run goes on.

        Otherwise the run fails, to be taken back. Raises Refused where nobody is to come any more.
        """
        drops = self._plan.absence.drops_in(self._judge.at[0])
        if drops and self._attendance.leaving:
            raise Refused("FAILED_PRECONDITION", _OVER)
        k = self._attendance.find(name)
        if not drops or k in self._asking.hopes_for:
            self._waiting.fail(Forgotten(f"user {name!r} came back as a new process"))
            return False
        self.door.coming[k] = process
        return True

    @property
    def coming(self) -> str:
        """A user whose process comes anew, and is not let in yet; empty if there is none."""
        return next((self._plan.users[k].name for k in self.door.coming), "")

    def require_hope(self) -> None:
        """Fails, if the slot waits for what somebody at the door has forgotten."""
        for k in filter(self.door.waits, self._asking.hopes_for):
            self._waiting.fail(Forgotten(f"user {self._plan.users[k].name!r} came back as a new process"))

    def close(self) -> None:
        """Nobody is let in any more."""
        self.door.close(Refused("FAILED_PRECONDITION", _OVER))
