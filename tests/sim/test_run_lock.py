"""One process at a time per directory; the lock of a dead one is nobody's."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sim.run_lock import InUse, locked

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from sim.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_says_who_holds_it_and_goes_when_done(tmp_path: Path) -> None:
    with locked(tmp_path):
        told = json.loads((tmp_path / "lock").read_text())
        assert told == {"pid": os.getpid(), "host": socket.gethostname()}
        with pytest.raises(InUse, match=f"in use by process {os.getpid()} on {socket.gethostname()}"), locked(tmp_path):
            pytest.fail("two at once")
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InUse, match=f"process {process.pid} on"), locked(tmp_path):
            pytest.fail("two at once")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "lock").exists()
        with locked(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    finally:
        process.kill()
        process.communicate()
