"""Settings of every test. One thread each: several that spin on a small machine take longer than one.

A shell's background jobs, and what they start, ignore SIGINT until somebody says otherwise: here it is heard.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

import protos  # noqa: F401  before gRPC, whose environment it sets

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """What an actor leaves set for its process, a test that runs it here takes back: others need small numbers."""
    yield
    torch.set_flush_denormal(False)
