"""Slot messages come and go thousands of times a second: memory is kept for them, and garbage is looked for less often.

By default glibc gives large blocks back to the kernel and takes fresh pages for the next message, which cost a page
fault each; and Python looks for cycles after every 700 new objects, some of the time among all that were ever made.
The numbers do not depend on either.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEEP = 1 << 30
_NEW_OBJECTS = 50_000
"""Between two looks for cycles; a slot of a thousand users makes about ten thousand, and frees them."""


def keep_buffers() -> bool:
    """Serve blocks up to 1 GiB from one heap that does not shrink. False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_TRIM_THRESHOLD, _KEEP), (_MMAP_THRESHOLD, _KEEP), (_ARENA_MAX, 1))
    return all(mallopt(name, value) for name, value in settings)


@cache
def keep_objects() -> None:
    """What is there now stays: it is not looked through for cycles again, and what comes later not as often.

    Once in a process: what a run leaves behind is garbage for the next one.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Around large imports, of which nothing is garbage: looking for it takes a fifth of the time of theirs."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
