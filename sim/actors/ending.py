"""How an actor ends that nobody may be able to reach any more."""

import asyncio
import os


def end_in(seconds: float | None) -> None:
    """This process ends by itself then, unless it is ended before; None: never."""
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, os._exit, 1)
