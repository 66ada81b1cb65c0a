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
Receipt = Literal["filed", "last", "again", "late"]
"""A message was filed; it was the last one missing. Left out: it was said before; a slot went on without it."""
_AT_ONCE = 3
"""Messages, at most, that one frame brings from one user, and may bring again: feedback, features, and Leave."""


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
    asked for. joined: who has ever been here; present: who is. owing: users without whom a slot went on, and what they
    still have to say, too late. closed: what is asked for has been gathered, and counts no more.
    """

    users: Sequence[str]
    slots: int
    joined: set[int] = field(default_factory=set)
    present: set[int] = field(default_factory=set)
    owing: dict[int, list[Ask]] = field(default_factory=dict)
    ahead: set[int] = field(default_factory=set)
    closed: bool = False
    _asked: Ask | None = None
    _following: Ask | None = None
    _from: frozenset[int] = frozenset()
    _answers: dict[int, Said] = field(default_factory=dict)
    _early: dict[int, Said] = field(default_factory=dict)
    _spare: dict[int, Said] = field(default_factory=dict)
    _last: dict[int, tuple[Ask, ...]] = field(default_factory=dict)

    def find(self, name: str) -> int:
        """Index of the user `name`. Raises Refused for a stranger."""
        if name not in self._index:
            raise Refused("NOT_FOUND", f"no user {name!r} in this scenario")
        return self._index[name]

    def join(self, k: int) -> None:
        """User k is here, for the first time or again."""
        self.joined.add(k)
        self.present.add(k)

    def lose(self, k: int) -> None:
        """User k's stream is over."""
        self.present.discard(k)

    def renew(self, k: int) -> None:
        """User k is here, and has forgotten what it said, and what it was asked for."""
        self.join(k)
        for known in (self.owing, self._early, self._spare, self._last):
            known.pop(k, None)

    def expect(self, ask: Ask, users: Iterable[int]) -> None:
        """From now on `ask` from `users` is what counts; what came early is filed, the rest is forgotten.

        Who is left out although it may have sent ahead what is asked for, owes it.
        """
        users = frozenset(users)
        early = self._early if ask == self._following else {}
        if ask == self._following:
            left_out = (self._answers.keys() & self.ahead) - early.keys() - users
            for k in left_out:
                self._owe(k, ask)
        self._spare = {k: said for k, said in early.items() if k not in users}
        self._asked, self._from, self.closed = ask, users, False
        self._answers = {k: said for k, said in early.items() if k in self._from}
        if ask[0] != "leave":
            self._following, self._early = self._after(ask), {}

    def receive(self, k: int, message: pb.UserMessage, size: int) -> Receipt:
        """File user k's message of `size` bytes, and features that ride along.

        Raises OutOfOrder if it answers nothing that was asked, is not ahead by right, and not what it said just before;
        then nothing of it is filed.
        """
        ask = ask_of(message)
        if not message.HasField("ahead"):
            return self._file(ask, Said(k, message, size))
        riding = field_size(message.ahead)
        before = self._last.get(k, ())
        receipt = self._file(ask, Said(k, message, size - riding))
        if receipt not in ("filed", "last"):
            return receipt
        try:
            self._file_riding(Said(k, message, riding))
        except OutOfOrder:
            del (self._answers if ask == self._asked else self._early)[k]
            if before:
                self._last[k] = before
            else:
                del self._last[k]
            raise
        return receipt

    def _file_riding(self, said: Said) -> None:
        if not said.message.HasField("feedback"):
            raise OutOfOrder(f"user {self.users[said.k]!r} sent features ahead beside something that is no feedback")
        self._file(_features(said.message.ahead), said)

    def _file(self, ask: Ask, said: Said) -> Receipt:
        k = said.k
        receipt: Receipt = "filed"
        last = self._last.get(k, ())
        if ask == self._asked and k in self._from and k not in self._answers:
            self._answers[k] = said
            receipt = "last" if self.complete else "filed"
        elif ask in self.owing.get(k, ())[:1]:
            self._settle(k, ask, riding=said.message.HasField("ahead"))
            receipt = self._take_late(ask, said)
        elif self._is_ahead(k, ask):
            self._early[k] = said
        elif ask in last:
            return "again"
        else:
            raise OutOfOrder(f"user {self.users[k]!r} sent {_words(ask)}, but the edge asked for {self._wanted(k)}")
        self._last[k] = (ask, *last)[:_AT_ONCE]
        return receipt

    def _settle(self, k: int, ask: Ask, *, riding: bool) -> None:
        """User k has said what it owed first; who sends ahead may have more on the way."""
        follows = self._after(ask) if k in self.ahead and not riding else None
        self.owing[k][:1] = [] if follows is None else [follows]
        if not self.owing[k]:
            del self.owing[k]

    def _take_late(self, ask: Ask, said: Said) -> Receipt:
        """Late for its own turn may be in time for another use: nobody is asked twice for the same thing."""
        if ask == self._following:
            self._early[said.k] = said
            return "filed"
        if ask == self._asked:
            self._spare[said.k] = said
        return "late"

    def _owe(self, k: int, ask: Ask) -> None:
        self.owing.setdefault(k, []).append(ask)

    def admit(self, k: int) -> bool:
        """User k is asked, too; whether it has answered already."""
        self._from |= {k}
        if k in self._spare:
            self._answers[k] = self._spare.pop(k)
        return k in self._answers

    def has_answered(self, k: int) -> bool:
        """User k has said what is asked for."""
        return k in self._answers

    def excuse(self) -> list[int]:
        """Goes on without those who have not answered, who owe it from now on; their indices, ascending."""
        missing = sorted(self.unheard)
        if self._asked is not None:
            for k in missing:
                self._owe(k, self._asked)
        self._from -= frozenset(missing)
        return missing

    @property
    def away(self) -> set[int]:
        """Who cannot be asked: whose stream broke, and who owes something."""
        return self.owing.keys() | (self.joined - self.present)

    @property
    def asked(self) -> frozenset[int]:
        """Whose answers count."""
        return self._from

    @property
    def what(self) -> Kind:
        """What is asked for."""
        return self._asked[0] if self._asked else "features"

    @property
    def where(self) -> tuple[int, int]:
        """Round and slot of what is asked for."""
        return self._asked[1:] if self._asked else (0, 0)

    @property
    def in_slot(self) -> bool:
        """What is asked for is part of a slot, not of a validation or of the end."""
        return self._asked is not None and self.what in ("features", "feedback") and self._asked[2] < self.slots

    @property
    def answered(self) -> int:
        """How many of those who were asked have answered."""
        return len(self._answers)

    @property
    def unheard(self) -> frozenset[int]:
        """Indices of those who have not answered yet."""
        return self._from - self._answers.keys()

    @property
    def complete(self) -> bool:
        """Everybody who was asked has answered."""
        return len(self._answers) == len(self._from)

    @property
    def absent(self) -> list[str]:
        """Names of those who have not joined yet, in scenario order."""
        return [name for k, name in enumerate(self.users) if k not in self.joined]

    @property
    def assembled(self) -> bool:
        """Everybody has joined."""
        return len(self.joined) == len(self.users)

    @property
    def leaving(self) -> bool:
        """What is asked for is to leave."""
        return self._asked is not None and self._asked[0] == "leave"

    @property
    def missing(self) -> list[str]:
        """Names of those who have not answered yet, in scenario order."""
        return [self.users[k] for k in sorted(self.unheard)]

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
