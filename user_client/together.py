"""Many users of a host who answer in one go: what arrived at the same time is answered at the same time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from protos import edge_pb2 as pb
from protos.tensors import unpack_together
from user_client.session import Session
from user_client.user import Feedback, feedback_together

T = TypeVar("T")


class Message(NamedTuple):
    """What the edge said to one user."""

    session: Session
    data: bytes


class UserFailed(Exception):
    """A user could not go on; its cause says why."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class _Due(NamedTuple):
    """Outputs that wait for feedback, and where the answers go."""

    session: Session
    outputs: pb.Outputs
    answers: list[bytes]


def react_together(said: Sequence[Message]) -> list[list[bytes]]:
    """The answers to each message, as `Session.react` gives them. Raises UserFailed."""
    answers: list[list[bytes]] = []
    due: list[_Due] = []
    for session, data in said:
        if not session.together:
            answers.append(_of(session, lambda: [*session.react(data)]))  # noqa: B023  # called at once
            continue
        heard = _of(session, lambda: session.hear(data))  # noqa: B023
        answers.append(heard.answers)
        if heard.due is not None:
            due.append(_Due(session, heard.due, heard.answers))
    for alike in _alike(due):
        _give_feedback(alike)
    return answers


def _alike(due: list[_Due]) -> list[list[_Due]]:
    """Those whose outputs have the same spec; equal ones are one object."""
    groups: dict[int, list[_Due]] = {}
    for one in due:
        groups.setdefault(id(one.session.outputs), []).append(one)
    return [*groups.values()]


def _give_feedback(due: list[_Due]) -> None:
    for one, given in zip(due, _feedback(due), strict=True):
        one.answers.extend(_of(one.session, lambda: [*one.session.answer(one.outputs, given)]))  # noqa: B023


def _feedback(due: list[_Due]) -> list[Feedback]:
    """In one go; if that fails, one by one, to find whose fault it is. Raises UserFailed, or what failed."""
    sessions, spec = [one.session for one in due], due[0].session.outputs
    try:
        outputs = unpack_together([one.outputs.outputs for one in due], spec)
        return feedback_together([session.user for session in sessions], outputs)
    except Exception:
        for one in due:
            _of(one.session, lambda: one.session.feedback(one.outputs))  # noqa: B023
        raise


def _of(session: Session, function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception as error:
        raise UserFailed(session.name) from error


class Turn:
    """What reaches users in one turn of the event loop is answered together."""

    def __init__(self) -> None:
        self._said: list[tuple[Message, asyncio.Future[list[bytes]]]] = []

    async def answers(self, session: Session, data: bytes) -> list[bytes]:
        """The session's answers to this message. Raises what it raises."""
        loop = asyncio.get_running_loop()
        if not self._said:
            loop.call_soon(self._react)
        future: asyncio.Future[list[bytes]] = loop.create_future()
        self._said.append((Message(session, data), future))
        return await future

    def _react(self) -> None:
        said, self._said = self._said, []
        try:
            answers = react_together([message for message, _ in said])
        except UserFailed as failure:
            for message, future in said:
                if message.session.name == failure.name and not future.done():
                    future.set_exception(failure.__cause__ or failure)
            return
        except Exception as error:
            for _, future in said:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), given in zip(said, answers, strict=True):
            if not future.done():
                future.set_result(given)
