"""The process of one server task: `python -m edge_server.server_tasks.worker`, started by the edge.

stdin: the job (`edge_server.server_tasks.job`), later the line `stop`. Its end means that the edge is gone, and ends
this process at once. stdout: frames. Torch is imported only when priority and listener are in place. A trainer whose
policies somebody waits for keeps the edge's own priority.
"""

import json
import os
import signal
import sys
import threading
from typing import BinaryIO

_LOWEST = 19


def yield_to_all() -> None:
    """The lowest niceness, where the system has any; the numbers do not depend on it."""
    if hasattr(os, "nice"):
        os.nice(_LOWEST)


def claim_stdout() -> BinaryIO:
    """stdout for frames alone: what anything else prints there goes to stderr."""
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


def listen(commands: BinaryIO, stopping: threading.Event) -> None:
    """Hears `stop`; ends the process when the edge is gone."""
    for line in commands:
        if line == b"stop\n":
            stopping.set()
    os._exit(1)


def main() -> None:
    """One job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    frames, stopping = claim_stdout(), threading.Event()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    content = json.loads(line)
    if content["pace"] is None:
        yield_to_all()
    state = sys.stdin.buffer.read(content["state"])
    threading.Thread(target=listen, args=(sys.stdin.buffer, stopping), name="listener", daemon=True).start()

    from edge_server.server_tasks.job import read_job
    from edge_server.server_tasks.training import train

    train(read_job(content, state), frames, stopping)
    sys.stderr.flush()
    os._exit(0)  # the listener holds stdin, which the interpreter's own way out would wait for


if __name__ == "__main__":
    main()
