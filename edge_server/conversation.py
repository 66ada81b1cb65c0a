"""What the edge and one user have said to each other, over all streams of that user: a stream may break, they go on."""

from typing import NamedTuple, Protocol

from edge_server.attendance import Refused
from protos import edge_pb2 as pb

_Epoch = tuple[int, int]
"""Which process of a user, and which stream of it."""


class Line(Protocol):
    """The way to one user."""

    def send(self, data: bytes) -> None:
        """Queue one serialised EdgeMessage."""
        ...

    def end(self, error: Refused) -> None:
        """The stream behind it ends with this status."""
        ...


class _Message(NamedTuple):
    number: int
    data: bytes
    is_round_end: bool
    rejects_features: bool


class Conversation:
    """One user's, with one process. taken: how many of its messages the edge has taken in; Joins are not counted.

    The edge counts its own, too, `Resumed` aside, and keeps those that the user may not have heard. They are few: an
    answer shows that the user has heard what was asked, and of two ends of rounds in a row the last one says it all.
    """

    def __init__(self, join: pb.Join, line: Line):
        self.taken, self.process = 0, join.process
        self._name, self._incarnation = join.user, join.incarnation
        self._line: Line | None = line
        self._sent = self._proven = 0
        self._unproven: list[_Message] = []

    def send(self, message: pb.EdgeMessage) -> int:
        """Bytes of the message, which is on its way, or waits until the user is back."""
        data, is_round_end = message.SerializeToString(), message.HasField("round_end")
        if is_round_end and self._unproven and self._unproven[-1].is_round_end:
            self._unproven.pop()
        self._sent += 1
        self._unproven.append(_Message(self._sent, data, is_round_end, message.rejected.field == "features"))
        if self._line is not None:
            self._line.send(data)
        return len(data)

    def prove(self) -> None:
        """The user has answered the last thing that was said: it has heard everything."""
        self._proven = self._sent
        self._unproven.clear()

    @property
    def told_of_bad_features(self) -> bool:
        """What was said last, and not proven yet: features were rejected. No feedback came behind which others ride."""
        return bool(self._unproven) and self._unproven[-1].rejects_features

    def prove_asked(self) -> None:
        """The user has answered, too late, the last thing that it was asked: it has heard that, and all before."""
        for place, said in reversed([*enumerate(self._unproven)]):
            if _asks(pb.EdgeMessage.FromString(said.data)):
                self._proven = said.number
                del self._unproven[: place + 1]
                return

    def is_on(self, line: Line) -> bool:
        """The user is reached by this line, and by no later one."""
        return self._line is line

    def break_off(self) -> None:
        """The user cannot be reached until it is back."""
        self._line = None

    @property
    def _epoch(self) -> _Epoch:
        return self.process, self._incarnation

    @property
    def is_here(self) -> bool:
        """The user can be reached."""
        return self._line is not None

    def end(self, error: Refused) -> None:
        """Its stream, if there is one, ends with this status."""
        if self._line is not None:
            self._line.end(error)

    def replaced_by(self, join: pb.Join) -> Line | None:
        """A later process of the user goes on in the place of this one, whose line this gives. Raises Refused."""
        self._require_next(join)
        if join.heard:
            raise Refused("INVALID_ARGUMENT", f"user {self._name!r} begins anew, but has heard {join.heard} messages")
        self.end(self._stale(self._epoch, _epoch(join)))
        return self._line

    def resume(self, join: pb.Join, line: Line) -> int:
        """Goes on over `line`: says what the user has not heard, and returns how much. Raises Refused.

        A stream that is still there is one of the user's past: it ends.
        """
        self._require_next(join)
        self._require_memory(join.heard)
        missed = self._counted_on(join.heard)
        self.end(self._stale(self._epoch, _epoch(join)))
        self._incarnation, self._line = join.incarnation, line
        if join.heard:
            resumed = pb.Resumed(taken=self.taken, before=join.heard)
            line.send(pb.EdgeMessage(resumed=resumed).SerializeToString())
        for said in missed:
            line.send(said.data)
        return len(missed)

    def _counted_on(self, heard: int) -> list[_Message]:
        """What the user has not heard, counted on from what it has: what is not said any more leaves no gap."""
        known = [said for said in self._unproven if said.number <= heard]
        missed = [said._replace(number=heard + n) for n, said in enumerate(self._unproven[len(known) :], start=1)]
        self._unproven, self._sent = [*known, *missed], heard + len(missed)
        return missed

    def _require_next(self, join: pb.Join) -> None:
        """Raises Refused unless the user counts on: two processes of one name would answer for each other."""
        if _epoch(join) == self._epoch and self._line is not None:
            raise Refused("ALREADY_EXISTS", f"user {self._name!r} has joined already")
        if _epoch(join) <= self._epoch:
            raise self._stale(_epoch(join), self._epoch)

    def _stale(self, old: _Epoch, new: _Epoch) -> Refused:
        reason = f"stale epoch: incarnation {_said(old)} of user {self._name!r}, the edge knows {_said(new)}"
        return Refused("FAILED_PRECONDITION", reason)

    def _require_memory(self, heard: int) -> None:
        """Raises Refused unless the user goes on from where it was: what it has forgotten is not said again."""
        if not self._proven <= heard <= self._sent:
            raise Refused(
                "FAILED_PRECONDITION",
                f"user {self._name!r} comes back with {heard} messages of the edge in mind; it has heard "
                f"{self._proven} to {self._sent}: this process does not know what the one before it knew",
            )


def _asks(message: pb.EdgeMessage) -> bool:
    """Whether the user is to say something about a slot or a validation."""
    if message.HasField("outputs") or message.HasField("following"):
        return True
    said = getattr(message, message.WhichOneof("kind") or "asked")
    following = said if isinstance(said, pb.Next) else getattr(said, "next", pb.Next())
    return following.ask in (pb.Next.FEATURES, pb.Next.VALIDATION)


def _epoch(join: pb.Join) -> _Epoch:
    return join.process, join.incarnation


def _said(epoch: _Epoch) -> str:
    process, incarnation = epoch
    return f"{incarnation}{f' of process {process}' if process else ''}"
