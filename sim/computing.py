"""The process of a command that computes. What such commands stand on is imported when one of them is called."""

from collections.abc import Iterator
from contextlib import contextmanager

from sim.allocator import keep_buffers, keep_objects, nothing_collected


@contextmanager
def computing() -> Iterator[None]:
    """Around a command's own imports: then torch has one thread, until a run says how many, and memory is kept."""
    with nothing_collected():
        yield
        import torch
    torch.set_num_threads(1)
    keep_buffers()
    keep_objects()
