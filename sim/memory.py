"""Edge and users in one process and no socket: the same messages, packed and unpacked."""

from collections import deque
from collections.abc import Iterable, Iterator

from edge_server.attendance import OutOfOrder, Refused
from edge_server.cell import Cell
from edge_server.judge import RunFailed
from user_client.session import Session


class MemoryLine:
    """A user that answers as soon as it is spoken to."""

    def __init__(self, cell: Cell, session: Session):
        self._cell = cell
        self._session = session
        self._unread: deque[bytes] = deque()
        self._k: int | None = None

    def join(self) -> None:
        """Take the user into the cell, and let it answer the welcome."""
        self._k = self._cell.join(self._session.join(), self)
        while self._unread:
            self.send(self._unread.popleft())

    def send(self, data: bytes) -> None:
        """The user reacts at once; what it raises ends the run with its name."""
        if self._k is None:
            self._unread.append(data)
            return
        self._say(self._k, self._answers(data))

    def end(self, error: Refused) -> None:
        """Users in memory join once: none of them takes the place of another."""
        raise error

    def _say(self, k: int, answers: Iterable[bytes]) -> None:
        for answer in answers:
            self._receive(k, answer)

    def _answers(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._session.react(data)
        except Exception as error:
            raise RunFailed(f"user {self._session.name!r} failed: {type(error).__name__}: {error}") from error

    def _receive(self, k: int, answer: bytes) -> None:
        try:
            self._cell.receive(k, answer)
        except (OutOfOrder, Refused) as error:
            self._cell.lose(k, str(error), self, for_good=True)
