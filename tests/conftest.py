"""Settings of every test. One thread each: several that spin on a small machine take longer than one.

A shell's background jobs, and what they start, ignore SIGINT until somebody says otherwise: here it is heard.
"""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch
from hypothesis import settings

import protos  # noqa: F401  before gRPC, whose environment it sets

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_finish() -> None:
    """What was imported and collected lives as long as the process: no collection looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """What an actor leaves set for its process, a test that runs it here takes back: small numbers, and its place in
    the queue for cores (which takes root)."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    yield
    torch.set_flush_denormal(False)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
