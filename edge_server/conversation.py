"""What the edge and one user have said to each other, over all streams of that user: a stream may break, they go on."""

from typing import NamedTuple, Protocol

from edge_server.attendance import Refused
from protos import edge_pb2 as pb


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


class Conversation:
    """One user's. taken: how many of its messages the edge has taken in; Joins are not counted.

    The edge counts its own, too, `Resumed` aside, and keeps those that the user may not have heard. They are few: an
    answer shows that the user has heard what was asked, and of two ends of rounds in a row the last one says it all.
    """

    def __init__(self, name: str, incarnation: int, line: Line):
        self.taken = 0
        self._name, self._incarnation = name, incarnation
        self._line: Line | None = line
        self._sent = self._proven = 0
        self._unproven: list[_Message] = []

    def send(self, message: pb.EdgeMessage) -> int:
        """Bytes of the message, which is on its way, or waits until the user is back."""
        data, is_round_end = message.SerializeToString(), message.HasField("round_end")
        if is_round_end and self._unproven and self._unproven[-1].is_round_end:
            self._unproven.pop()
        self._sent += 1
        self._unproven.append(_Message(self._sent, data, is_round_end))
        if self._line is not None:
            self._line.send(data)
        return len(data)

    def prove(self) -> None:
        """The user has answered the last thing that was said: it has heard everything."""
        self._proven = self._sent
        self._unproven.clear()

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

    def resume(self, join: pb.Join, line: Line) -> int:
        """Goes on over `line`: says what the user has not heard, and returns how much. Raises Refused.

        A stream that is still there is one of the user's past: it ends.
        """
        self._require_next(join.incarnation)
        self._require_memory(join.heard)
        missed = self._counted_on(join.heard)
        if self._line is not None:
            self._line.end(stale(self._name, self._incarnation, join.incarnation))
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

    def _require_next(self, incarnation: int) -> None:
        """Raises Refused unless the user counts on: two processes of one name would answer for each other."""
        if incarnation == self._incarnation and self._line is not None:
            raise Refused("ALREADY_EXISTS", f"user {self._name!r} has joined already")
        if incarnation <= self._incarnation:
            raise stale(self._name, incarnation, self._incarnation)

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


def stale(name: str, incarnation: int, known: int) -> Refused:
    """For a stream or a process that another one of the same name has taken the place of."""
    reason = f"stale epoch: incarnation {incarnation} of user {name!r}, the edge knows {known}"
    return Refused("FAILED_PRECONDITION", reason)
