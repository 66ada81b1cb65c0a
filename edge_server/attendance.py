"""Who is here and who has answered: a pure state machine over the messages of one run.

The edge asks for one thing at a time (`expect`); users answer; nothing here touches a socket, a clock or a tensor.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from protos import edge_pb2 as pb
from protos.sizes import field_size

Kind = Literal["features", "feedback", "report", "leave"]
Ask = tuple[Kind, int, int]
"""(kind of message, round, slot)."""


class OutOfOrder(Exception):
    """A message that answers nothing that was asked; the stream that sent it makes no sense any more."""


class Refused(Exception):
    """A peer that may not join. `code` is a gRPC status name."""

    def __init__(self, code: str, reason: str):
        super().__init__(reason)
        self.code = code


class Said(NamedTuple):
    """One answer: user k's message, and its serialised length in bytes, without what rides along."""

    k: int
    message: pb.UserMessage
    size: int


@dataclass
class Attendance:
    """users: names in scenario order. Users are indices k from here on. slots: m, per round.

    A user that sends ahead lets the features of a round's next slot follow its feedback; they are kept until they are
    asked for.
    """

    users: Sequence[str]
    slots: int
    present: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    ahead: set[int] = field(default_factory=set)
    _asked: Ask | None = None
    _following: Ask | None = None
    _from: frozenset[int] = frozenset()
    _answers: dict[int, Said] = field(default_factory=dict)
    _early: dict[int, Said] = field(default_factory=dict)

    def join(self, name: str) -> int:
        """Index of the user `name`, now present. Raises Refused for a stranger or a second one of the same name."""
        if name not in self._index:
            raise Refused("NOT_FOUND", f"no user {name!r} in this scenario")
        k = self._index[name]
        if k in self.present or k in self.gone:
            raise Refused("ALREADY_EXISTS", f"user {name!r} has joined already")
        self.present.add(k)
        return k

    def lose(self, k: int) -> None:
        """User k's stream is over."""
        self.present.discard(k)
        self.gone.add(k)

    def expect(self, ask: Ask, users: Iterable[int]) -> None:
        """From now on `ask` from `users` is what counts; what came early is filed, the rest is forgotten."""
        early = self._early if ask == self._following else {}
        self._asked, self._from = ask, frozenset(users)
        self._answers = {k: said for k, said in early.items() if k in self._from}
        if ask[0] != "leave":
            self._following, self._early = self._after(ask), {}

    def receive(self, k: int, message: pb.UserMessage, size: int) -> bool:
        """File user k's message of `size` bytes, and features that ride along; True if it was the last one missing.

        Raises OutOfOrder if it answers nothing that was asked, and is not ahead by right.
        """
        if not message.HasField("ahead"):
            return self._file(ask_of(message), Said(k, message, size))
        riding = field_size(message.ahead)
        last = self._file(ask_of(message), Said(k, message, size - riding))
        if not message.HasField("feedback"):
            raise OutOfOrder(f"user {self.users[k]!r} sent features ahead beside something that is no feedback")
        self._file(_features(message.ahead), Said(k, message, riding))
        return last

    def _file(self, ask: Ask, said: Said) -> bool:
        k = said.k
        if ask == self._asked and k in self._from and k not in self._answers:
            self._answers[k] = said
            return self.complete
        if not self._is_ahead(k, ask):
            raise OutOfOrder(f"user {self.users[k]!r} sent {_words(ask)}, but the edge asked for {self._wanted(k)}")
        self._early[k] = said
        return False

    @property
    def asked(self) -> frozenset[int]:
        """Whose answers count."""
        return self._from

    @property
    def complete(self) -> bool:
        """Everybody who was asked has answered."""
        return len(self._answers) == len(self._from)

    @property
    def absent(self) -> list[str]:
        """Names of those who have not joined yet, in scenario order."""
        return [name for k, name in enumerate(self.users) if k not in self.present and k not in self.gone]

    @property
    def assembled(self) -> bool:
        """Everybody has joined."""
        return len(self.present) + len(self.gone) == len(self.users)

    @property
    def leaving(self) -> bool:
        """What is asked for is to leave."""
        return self._asked is not None and self._asked[0] == "leave"

    @property
    def missing(self) -> list[str]:
        """Names of those who have not answered yet, in scenario order."""
        return [self.users[k] for k in sorted(self._from - self._answers.keys())]

    @property
    def answers(self) -> list[Said]:
        """What was gathered, in scenario order whatever the order of arrival."""
        return [self._answers[k] for k in sorted(self._answers)]

    def _after(self, ask: Ask) -> Ask | None:
        """What a user that sends ahead lets follow `ask`: features of the same round's next slot."""
        kind, t, i = ask
        return ("features", t, i + 1) if kind == "feedback" and i + 1 < self.slots else None

    def _is_ahead(self, k: int, said: Ask) -> bool:
        """Features behind this slot's feedback; or on their way when everybody was told to leave."""
        in_time = (k in self._answers) != self.leaving
        return k in self.ahead and said == self._following and k not in self._early and in_time

    def __post_init__(self) -> None:
        self._index = {name: k for k, name in enumerate(self.users)}

    def _wanted(self, k: int) -> str:
        if self._asked is None or k not in self._from:
            return "nothing from it now"
        return f"{_words(self._asked)}" + (", which it has sent" if k in self._answers else "")


def ask_of(message: pb.UserMessage) -> Ask:
    """What a user's message answers. Raises OutOfOrder for one that answers nothing (empty, or a second Join)."""
    kind = message.WhichOneof("kind")
    if kind == "features":
        return _features(message.features)
    if kind == "feedback":
        return "feedback", message.feedback.key.round, message.feedback.key.slot
    if kind == "report":
        return "report", message.report.key.round, message.report.key.slot
    if kind == "leave":
        return "leave", 0, 0
    raise OutOfOrder(f"a message of kind {kind or 'none'} where an answer was due")


def _features(said: pb.Features) -> Ask:
    return "features", said.key.round, said.key.slot


def _words(ask: Ask) -> str:
    kind, round_, slot = ask
    return kind if kind == "leave" else f"{kind} of round {round_}, slot {slot}"
