"""`python -m fuzz TARGET CORPUS... -runs=N`: makes up inputs that reach new code, from those of the corpus.

New ones are kept in the first folder; what else follows TARGET is libFuzzer's. Linux alone.
"""

import re
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protos", "edge_server", "user_client"]):
    from fuzz.targets import TARGETS

ALLOWED = 64
"""MiB beyond what the corpus takes."""
EVERY = 64
"""Inputs between two looks at the memory."""


def peak() -> float:
    """MiB that this process ever held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) / 1024


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    for folder in (Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")):
        for file in sorted(folder.iterdir()):
            target(file.read_bytes())
    count, limit = 0, peak() + ALLOWED

    def once(data: bytes) -> None:
        nonlocal count
        target(data)
        count += 1
        if count % EVERY == 0 and peak() > limit:
            raise MemoryError(f"one of the last {EVERY} inputs took the process beyond {limit:.0f} MiB")

    atheris.Setup([*sys.argv, "-rss_limit_mb=0"], once)
    atheris.Fuzz()


main()
