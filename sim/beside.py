"""A process of ours beside a run, for as long as the run lives."""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"


def start(module: str, arguments: Sequence[str], descriptors: Sequence[int] = ()) -> Process:
    """`python -m module ..`. It hears no Ctrl-C of its own: it ends when the run does, however that ends."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )


def end(process: Process, seconds: float) -> bool:
    """The run is over, and the process has so long for what is left to do; whether it ended well."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode == 0


def over() -> bool:
    """In that process: the run's process has closed its end, or is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)
