"""Memory of slot messages is freed and asked for again thousands of times a second: let the allocator keep it.

By default glibc gives large blocks back to the kernel and takes fresh pages for the next message, which cost a page
fault each. The numbers do not depend on it.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEEP = 1 << 30


def keep_buffers() -> bool:
    """Serve blocks up to 1 GiB from one heap that does not shrink. False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_TRIM_THRESHOLD, _KEEP), (_MMAP_THRESHOLD, _KEEP), (_ARENA_MAX, 1))
    return all(mallopt(name, value) for name, value in settings)
