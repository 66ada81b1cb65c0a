"""A long run in a process of its own, watched from inside: what it holds after every round, as JSON lines."""

import gc
import json
import sys
from pathlib import Path

import psutil

from edge_server.record import RoundRecord
from sim.caller import Watcher
from sim.runner import run
from sim.scenario import load


def main(scenario: str, out: str, *sets: str) -> None:
    """Runs it into `out`; a line per round: `round`, `rss` in bytes, `fds`, `threads`."""
    process = psutil.Process()

    def look(record: RoundRecord) -> None:
        gc.collect()
        held = {"round": record.round, "rss": process.memory_info().rss, "fds": process.num_fds()}
        sys.stdout.write(json.dumps({**held, "threads": process.num_threads()}) + "\n")

    run(load(Path(scenario), sets), Path(out), None, Watcher(on_round=look))


if __name__ == "__main__":
    main(*sys.argv[1:])
