"""Whom the edge asks for what, as a run goes from slot to slot, to validations and to its end."""

from collections.abc import Collection, Iterable

from edge_server.absence import AWAY
from edge_server.answers import asking, leave
from edge_server.attendance import Attendance, Kind
from edge_server.judge import Judge
from edge_server.plan import RunPlan
from edge_server.post import Post
from edge_server.turns import Turns
from edge_server.waiting import Waiting
from protos import edge_pb2 as pb


class Asking:
    """Opens in `attendance` what comes next, and words it for each user k.

    spoke: who gave feedback in the slot that goes on. stopping: everybody is to leave after it.
    """

    def __init__(self, plan: RunPlan, attendance: Attendance, judge: Judge, post: Post, waiting: Waiting):
        self._plan, self._attendance, self._judge = plan, attendance, judge
        self._post, self._waiting = post, waiting
        self.spoke: set[int] = set()
        self.stopping = False
        self.turns = Turns(plan, judge.out, self._away)
        self._next = self._turn(plan.first, plan.first_slot)
        self.expect("features", plan.first, plan.first_slot, self._next)

    def expect(self, kind: Kind, t: int, i: int, users: Iterable[int]) -> None:
        """From now on this is what counts."""
        self._waiting.turn()
        self._attendance.expect((kind, t, i), users)

    def after_slot(self, t: int, i: int) -> None:
        """Opens what follows slot i before anybody is told, so that no answer comes too early."""
        self._next = self._turn(t, i + 1)
        if self.stopping:
            self._expect_leave()
        else:
            self.expect("features", t, i + 1, self._next)

    def after_round(self, t: int) -> bool:
        """Opens what follows round t; whether it was the last."""
        last = self.stopping or t + 1 == self._plan.rounds
        if last:
            self._expect_leave()
        else:
            self._judge.begin_round()
            self.turns.begin(t + 1, self._judge.out)
            self._next = self.turns.here
            self.expect("features", t + 1, 0, self._next)
        return last

    def _expect_leave(self) -> None:
        self.expect("leave", 0, 0, range(len(self._plan.users)))

    def _turn(self, t: int, i: int) -> frozenset[int]:
        """Whose features of slot i are wanted; behind the last one, of the validation."""
        if i < self._plan.slots:
            self.turns.go_on(t, i)
            return self.turns.here
        return frozenset(k for k in self.turns.so_far.difference(self._away(t, i)) if self._validates(k))

    def _away(self, t: int, i: int) -> Collection[int]:
        """Who is left out of slot i of round t from its start, although it may be its turn."""
        absence = self._plan.absence
        if absence.drops_in(t):
            return self._attendance.away
        return absence.log.left_out(t, i, AWAY)

    def not_validating(self) -> list[int]:
        """Who took part in the round, and is not asked to validate although it could."""
        return [k for k in self.turns.so_far - self._attendance.asked if self._validates(k)]

    def _validates(self, k: int) -> bool:
        return self._plan.users[k].validation_batch > 0

    def word(self, answer: pb.Next, k: int, t: int, i: int) -> None:
        """Says in `answer` what user k is to do in slot i, or for the validation, of a run that goes on."""
        attendance, in_slot = self._attendance, i < self._plan.slots
        self.recall(answer, k, t, i)
        comes = in_slot and k in attendance.ahead and k in self.spoke
        if comes or k not in self._next or (not self.stopping and attendance.has_answered(k)):
            answer.ask = pb.Next.WAIT
            return
        answer.ask = pb.Next.FEATURES if in_slot else pb.Next.VALIDATION
        answer.key.round, answer.key.slot = t, i

    def recall(self, answer: pb.Next, k: int, t: int, i: int) -> None:
        """Says in `answer` that user k goes back to an earlier state before slot i, where it does."""
        if back := self._plan.back_to(t, i).get(k):
            answer.back_to.round, answer.back_to.slot = back
            self._post.forget(k)

    def others(self, here: frozenset[int], t: int, i: int) -> None:
        """Tells those who were not `here` in the slot that is over what is wanted of them, and those who go back."""
        for k in sorted(self._attendance.asked.union(self._plan.back_to(t, i)) - here):
            message = asking()
            self.word(message.asked, k, t, i)
            if self.stopping:
                leave(message.asked)
            self._post.send(k, message)

    def lacks(self, k: int) -> bool:
        """The slot waits for features, and user k could be one more who gives them."""
        return self._too_few and not self._attendance.has_answered(k)

    def ask_anew(self, k: int) -> None:
        """Asks user k, which the slot waits for, or might."""
        if k in self._attendance.asked:
            self._ask(k)
        else:
            self.make_up({k})

    def make_up(self, users: Iterable[int]) -> None:
        """Asks those of `users` who can be asked, too, while too few take part in the slot that waits for features."""
        if not self._too_few:
            return
        attendance = self._attendance
        for k in sorted(set(users) - attendance.away - attendance.asked):
            if self._too_few and self.turns.come_back(k):
                if attendance.admit(k):
                    self._waiting.look()
                else:
                    self._ask(k)

    @property
    def hopes_for(self) -> frozenset[int]:
        """The slot waits for feedback that only these can give, who were lost."""
        attendance = self._attendance
        waits = attendance.in_slot and attendance.what == "feedback" and not attendance.closed
        few = len(attendance.asked - self._waiting.lost.keys()) < self._plan.absence.min_users
        return attendance.unheard & self._waiting.lost.keys() if waits and few else frozenset()

    @property
    def _too_few(self) -> bool:
        absence, attendance = self._plan.absence, self._attendance
        waits = attendance.in_slot and attendance.what == "features" and not attendance.closed
        if not (waits and absence.drops_in(attendance.where[0])):
            return False
        asked, lost = attendance.asked, self._waiting.lost
        return len(asked) - len(lost) < absence.min_users and len(asked - lost.keys()) < absence.min_users

    def _ask(self, k: int) -> None:
        """Asks user k for features of the slot that goes on."""
        message = asking()
        message.asked.ask = pb.Next.FEATURES
        message.asked.key.round, message.asked.key.slot = self._attendance.where
        self._post.send(k, message)
