"""What killed processes left goes; what belongs to a living one, or is young, stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sim.litter import HELD, RAY, TOKEN, hold, sweep

HOLDER = """
import sys, time
from pathlib import Path
from sim.litter import hold

hold(Path(sys.argv[1]))
print(flush=True)
time.sleep(60)
"""


def made(folder: Path, name: str, age: float) -> Path:
    path = folder / name
    if name.startswith(RAY):
        (path / "session").mkdir(parents=True)
    else:
        path.write_text("secret")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_only_what_is_old_and_nobody_s_goes(tmp_path: Path) -> None:
    gone = [made(tmp_path, f"{RAY}dead{HELD}", 4000), made(tmp_path, f"{TOKEN}dead{HELD}", 4000)]
    kept = [
        made(tmp_path, f"{RAY}young{HELD}", 3000),
        made(tmp_path, f"{TOKEN}live{HELD}", 4000),
        made(tmp_path, "others", 4000),
    ]
    held = hold(kept[1])
    sweep(tmp_path)
    os.close(held)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert not any(path.exists() for path in gone)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = made(tmp_path, f"{RAY}of-another{HELD}", 4000)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        sweep(tmp_path)
        assert path.exists()
        holder.send_signal(signal.SIGKILL)
    sweep(tmp_path)
    assert not path.exists()
