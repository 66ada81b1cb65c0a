"""A fuzzed crowd in front of a cell: every message is answered by the documented error, or counts whole."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edge_server.absence import Absence
from edge_server.attendance import OutOfOrder, Refused
from edge_server.cell import Cell
from edge_server.judge import RunFailed
from edge_server.plan import RunPlan, UserPlan
from fuzz.tape import Tape, require_one_line
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.codings import Coding, Codings
from protos.sender import Sender

ROUNDS = SLOTS = 2
SIZES: dict[str, Any] = {"l_max": 4.0, "feature_shape": (3,), "output_shape": (1,), "batch": 2}
USERS = (
    UserPlan(name="a", dtype=torch.float64, validation_batch=0, trainable_front=False, **SIZES),
    UserPlan(name="b", dtype=torch.float32, validation_batch=1, trainable_front=True, **SIZES),
    UserPlan(
        name="c", dtype=torch.float32, validation_batch=0, trainable_front=False, away=(1,),
        codings=Codings(features=Coding("int8"), feedback=Coding("top_k", share=0.5)), **SIZES,
    ),
)  # fmt: skip
AHEAD = (True, False, False)
PLAN = RunPlan("r", ROUNDS, SLOTS, USERS, patience=60.0, absence=Absence("fail"))
_LOOP = asyncio.new_event_loop()
_TURNS = 4
"""Of the event loop, until the rounds have taken a message in."""


class Crowd:
    """The users: each knows what the edge said to it last, and could answer it honestly."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.seats: dict[int, int] = {}
        self.lines = [Line(self, k) for k in range(len(USERS))]
        self.over: set[int] = set()
        self.asked: list[list[pb.EdgeMessage]] = [[] for _ in USERS]
        self.last: list[bytes] = [b"" for _ in USERS]
        self.told = 0

    def act(self, tape: Tape) -> None:
        """One step of the program: who does what."""
        k, what = tape.number(len(USERS)), tape.number(8)
        if k in self.over:
            return
        if what == 7:
            self.leave(k, tape.number(2))
        elif what == 6:
            self.say(k, tape.piece(tape.number()))
        elif what == 5:
            self.say(k, self.last[k])
        elif said := self.honest(k):
            self.say(k, tape.spoiled(said) if what == 4 else misplaced(said, tape) if what == 3 else said)

    def leave(self, k: int, how: int) -> None:
        if k in self.seats:
            line = self.lines[k]
            self.cell.lose(k, "its connection broke", line) if how else self.cell.hang_up(k, line)
            self.over.add(k)

    def say(self, k: int, data: bytes) -> None:
        """As the service does: the first message of a stream is its Join; what makes no sense ends the stream."""
        self.last[k] = data
        before = snapshot(self.cell)
        try:
            if k in self.seats:
                self.cell.receive(self.seats[k], data)
            elif (joined := self.cell.join(data, self.lines[k])) in self.seats.values():
                raise AssertionError("two streams speak for one user")
            else:
                self.seats[k] = joined
        except (OutOfOrder, Refused) as error:
            require_one_line(error)
            assert snapshot(self.cell) == before, "a refused message changed something"
            if k in self.seats:
                self.cell.lose(self.seats[k], str(error), self.lines[k], for_good=True)
                self.over.add(k)

    def honest(self, k: int) -> bytes:
        """What user k would say now; nothing where it waits."""
        if k not in self.seats:
            return JOINS[k]
        while self.asked[k]:
            if said := answer(self.seats[k], self.asked[k].pop(0)):
                return said
        return b""


class Line:
    """Takes what the edge says to the user on stream k."""

    def __init__(self, crowd: Crowd, k: int):
        self._crowd, self._k = crowd, k

    def send(self, data: bytes) -> None:
        self._crowd.told += 1
        self._crowd.asked[self._k].append(pb.EdgeMessage.FromString(data))

    def end(self, error: Refused) -> None:
        raise AssertionError(f"one stream takes the place of another: {error}")


def snapshot(cell: Cell) -> list[Any]:
    """What a cell and its attendance hold."""
    return [_copied(value) for part in (cell, cell._attendance) for value in vars(part).values()]


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return list(value)
    return set(value) if isinstance(value, set) else id(value)


def misplaced(said: bytes, tape: Tape) -> bytes:
    """The same about another slot, in the message itself or in what rides along; a hash of another length."""
    message = pb.UserMessage.FromString(said)
    key = pb.Key(round=tape.number(ROUNDS + 1), slot=tape.number(SLOTS + 2))
    kind = message.WhichOneof("kind")
    if kind == "leave":
        message.leave.parameters_sha256 = tape.piece(tape.number(40))
    elif tape.number(2):
        message.ahead.key.CopyFrom(key)
    elif kind in ("features", "feedback", "report"):
        getattr(message, kind).key.CopyFrom(key)
    return message.SerializeToString()


def _join(user: UserPlan, ahead: bool) -> bytes:
    specs = (user.features, user.outputs, user.gradient, user.feature_gradient)
    names = ("features", "outputs", "feedback", "acknowledgement")
    join = pb.Join(
        protocol=PROTOCOL, run="r", user=user.name, dtype=pb.FLOAT64 if user.dtype == torch.float64 else pb.FLOAT32,
        feature_shape=user.feature_shape, batch=user.batch, validation_batch=user.validation_batch,
        wants_feature_gradient=user.trainable_front, sends_ahead=ahead,
        codings=pb.Codings(**{name: spec.described for name, spec in zip(names, specs, strict=True)}),
    )  # fmt: skip
    return pb.UserMessage(join=join).SerializeToString()


JOINS = [_join(user, ahead) for user, ahead in zip(USERS, AHEAD, strict=True)]


def answer(k: int, told: pb.EdgeMessage) -> bytes:
    """User k's honest answer: ones as features, tenths as gradient."""
    kind = told.WhichOneof("kind")
    due = told.following if told.HasField("following") else told.outputs
    if kind == "outputs" or told.HasField("following"):
        return _about_outputs(k, due.key)
    if kind == "goodbye":
        return b""
    asked = told.asked if kind == "asked" else getattr(told, kind or "asked").next
    if asked.ask in (pb.Next.FEATURES, pb.Next.VALIDATION):
        return pb.UserMessage(features=_features(k, asked.key)).SerializeToString()
    leaves = asked.ask == pb.Next.LEAVE
    return pb.UserMessage(leave=pb.Leave(parameters_sha256=bytes(32))).SerializeToString() if leaves else b""


def _features(k: int, key: pb.Key) -> pb.Features:
    user, said = USERS[k], pb.Features(key=key)
    spec = user.validation if key.slot == SLOTS else user.features
    Sender(user.codings.features).pack(torch.ones(spec.shape, dtype=user.dtype), said.features, key.round, key.slot)
    return said


def _about_outputs(k: int, key: pb.Key) -> bytes:
    user = USERS[k]
    if key.slot == SLOTS:
        return pb.UserMessage(report=pb.Report(key=key, loss=1.0)).SerializeToString()
    said = pb.UserMessage(feedback=pb.Feedback(key=key, loss=1.0))
    slope = torch.full((2, 1), 0.1, dtype=user.dtype)
    Sender(user.codings.feedback).pack(slope, said.feedback.gradient, key.round, key.slot)
    if AHEAD[k] and key.slot + 1 < SLOTS:
        said.ahead.CopyFrom(_features(k, pb.Key(round=key.round, slot=key.slot + 1)))
    return said.SerializeToString()


async def drive(cell: Cell) -> list[bytes]:
    """The rounds of an edge whose model is a constant."""
    await cell.assemble()
    for t in range(ROUNDS):
        for i in range(SLOTS):
            await _slot(cell, t, i)
        features = await cell.validation_features()
        for report in await cell.reports(t, _outputs(features, 1)):
            assert report is None or np.isfinite(report.loss)
        cell.end_round(t)
    return await cell.farewell()


async def _slot(cell: Cell, t: int, i: int) -> None:
    features = await cell.features(t, i)
    _check(features, [user.features.shape for user in USERS])
    heard = await cell.feedback(t, i, _outputs(features, 2))
    _check([said and said.gradient for said in heard], [user.gradient.shape for user in USERS])
    assert all(said is None or np.isfinite(said.loss) for said in heard)
    wanted = [
        torch.zeros(2, 3) if said and user.trainable_front else None for said, user in zip(heard, USERS, strict=True)
    ]
    cell.acknowledge(t, i, wanted)


def _outputs(features: Sequence[torch.Tensor | None], batch: int) -> list[torch.Tensor | None]:
    made = [torch.zeros(batch, 1, dtype=user.dtype) for user in USERS]
    return [None if x is None else one for x, one in zip(features, made, strict=True)]


def _check(found: Sequence[torch.Tensor | None], shapes: Sequence[tuple[int, ...]]) -> None:
    """What reaches the model is of the agreed shape, and finite."""
    for tensor, shape in zip(found, shapes, strict=True):
        assert tensor is None or (tensor.shape == shape and bool(tensor.isfinite().all()))


async def _talk(tape: Tape) -> bool:
    events: list[dict[str, Any]] = []
    cell = Cell(PLAN, events.append, lambda: False)
    crowd, driving = Crowd(cell), asyncio.create_task(drive(cell))
    try:
        while not tape.over and not driving.done():
            crowd.act(tape)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if not driving.done():
            cell.fail(RunFailed("the program is over"))
        await driving
        return True
    except RunFailed as failure:
        require_one_line(failure)
        return False
    finally:
        driving.cancel()


def conversation(data: bytes) -> bool:
    """A program for the crowd; True if the run came to its end."""
    return _LOOP.run_until_complete(_talk(Tape(data)))
