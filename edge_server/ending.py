"""A conversation that somebody else may end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from edge_server.attendance import Refused


class Ending:
    """Made in the task of a conversation. error: what it is to end with, once somebody has said so.

    superseded: another stream has taken its place, so that nobody is lost by its end.
    """

    def __init__(self) -> None:
        self.error: Refused | None = None
        self.superseded = False
        self._task = asyncio.current_task()

    def end(self, error: Refused) -> None:
        """The conversation ends with this error, wherever it waits."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()

    def supersede(self, error: Refused) -> None:
        """As `end`, for another stream that goes on in its place."""
        self.superseded = self.superseded or self.error is None
        self.end(error)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Around the conversation. Raises `error` in place of the cancellation that it came by."""
        try:
            yield
        except asyncio.CancelledError:
            if self.error is None or self._task is None:
                raise
            self._task.uncancel()
            raise self.error from None
