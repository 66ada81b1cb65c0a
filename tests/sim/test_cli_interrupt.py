"""Ctrl-C: exit 130, state saved, and nothing left behind - no process, no port, no temporary file."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

import runs

LONG = runs.kernel(many=3, rounds=100_000, slots=20)
ROOT = Path(__file__).parent.parent.parent


class Running:
    """`equiran run` in a process group of its own, with everything it started."""

    def __init__(self, folder: Path, tree: runs.Tree, *options: str):
        self.out = folder / "out"
        command = [sys.executable, "-m", "sim", "run", str(runs.write(folder, tree)), "--out", str(self.out), "--json"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.family: dict[int, psutil.Process] = {}
        self.temporary: set[str] = set()

    def wait_for(self, rounds: int, seconds: float = 120) -> None:
        """Returns when so many rounds are in the journal, which anyone can read while the run lives."""
        self.until(lambda: journal_rounds(self.out) >= rounds, seconds)

    def until(self, true: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.1)
        me = psutil.Process(self.process.pid)
        self.family = {p.pid: p for p in (me, *me.children(recursive=True))}
        self.temporary = {path for process in self.family.values() for path in named_by(process)}

    def finish(self, seconds: float) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=seconds)
        return self.process.returncode, stdout, stderr

    def survivors(self) -> list[psutil.Process]:
        return psutil.wait_procs(self.family.values(), timeout=5)[1]

    def litter(self) -> set[str]:
        """Temporary files that its processes named and that are still there."""
        return {path for path in self.temporary if Path(path).exists()}


def named_by(process: psutil.Process) -> set[str]:
    """What a process of ours has under /tmp; other runs on this machine have files of their own."""
    try:
        words = [*process.cmdline(), *process.environ().values()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return set()
    return {
        path for word in words for path in re.findall(r"/tmp/(?:equiran-[\w-]+(?:\.held)?|ray/session_[\w-]+)", word)
    }


def journal_rounds(out: Path) -> int:
    try:
        with pa.ipc.open_stream(out / "rounds.arrows") as journal:
            return sum(1 for _ in batches(journal))
    except (FileNotFoundError, pa.ArrowInvalid):
        return 0


def batches(journal: pa.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """Whole batches of a file that somebody is still writing."""
    while True:
        try:
            yield journal.read_next_batch()
        except (StopIteration, pa.ArrowInvalid, OSError):
            return


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def begin(tree: runs.Tree, *options: str) -> Running:
        made.append(Running(tmp_path, tree, *options))
        return made[-1]

    yield begin
    for running in made:
        for process in running.family.values():
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_signal_stops_the_run_between_two_slots(start, transport: str, number: signal.Signals, code: int) -> None:
    running = start(LONG, "--transport", transport)
    running.wait_for(2)
    running.process.send_signal(number)
    returncode, stdout, _ = running.finish(10)
    assert returncode == code
    check_stopped(running, stdout)


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["process", "group", "terminated"],
)
def test_a_signal_on_ray_leaves_nothing(start, number: signal.Signals, whole_group: bool) -> None:
    running = start({**LONG, "hosts": 2}, "--transport", "ray")
    running.wait_for(2)
    assert len(running.family) > 4
    assert {Path(path).name.rpartition("-")[0] for path in running.litter()} == {"equiran-ray", "equiran-token"}
    if whole_group:
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
    returncode, stdout, _ = running.finish(30)
    assert returncode == 128 + number
    check_stopped(running, stdout)


def test_a_killed_host_is_one_line_and_leaves_nothing(start) -> None:
    running = start({**LONG, "hosts": 2, "on_user_failure": "fail"}, "--transport", "ray", "--quiet")
    running.wait_for(2)
    hosts = [process for process in running.family.values() if "HostActor" in " ".join(process.cmdline())]
    assert len(hosts) == 2
    hosts[0].kill()
    returncode, stdout, stderr = running.finish(30)
    assert (returncode, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert line.startswith("kernel: the host of user")
    assert " died: " in line
    assert runs.read_json(running.out / "manifest.json")["status"] == "failed"
    assert running.survivors() == []
    assert running.litter() == set()


def check_stopped(running: Running, stdout: str) -> None:
    told = json.loads(stdout)
    assert told["status"] == "stopped"
    assert told["digest"] is None
    manifest = runs.read_json(running.out / "manifest.json")
    assert manifest["status"] == "stopped"
    rounds, slots = runs.rounds(running.out), runs.slots(running.out)
    assert rounds["round"].max() + 1 == told["rounds"] >= 2
    assert len(slots["round"]) == told["rounds"] * 20 * 3
    assert not [*running.out.glob("*.arrows")]
    assert running.survivors() == []
    assert running.litter() == set()


SLOW = """
import time
from torch import nn

class Slow(nn.Linear):
    calls = 0

    def __init__(self):
        super().__init__(4, 1)

    def forward(self, x):
        Slow.calls += 1
        time.sleep(60 if Slow.calls > 200 else 0)
        return super().forward(x)
"""


def test_a_second_ctrl_c_ends_it_at_once(start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_encoder.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    running = start(runs.changed(LONG, edge__encoder={"kind": "slow_encoder:Slow"}), "--transport", "memory")
    running.wait_for(5)
    time.sleep(1)
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.finish(10)[0] == 130
    assert runs.read_json(running.out / "manifest.json")["status"] == "stopped"
    assert len(runs.slots(running.out)["round"]) >= 5 * 20 * 3


SLOW_TO_BUILD = """
import sys
import time
import torch
from user_client.tasks.base import Job

class Slow:
    input_shape, dtype, validation_batch, outputs, loss, batch = (4,), torch.float64, 0, 1, "squared", 2

    def __init__(self, place):
        time.sleep(60 if "default_worker.py" in sys.argv[0] else 0)

    def job(self, round_, slot):
        return Job(torch.ones(2, 4, dtype=self.dtype), torch.ones(2, dtype=self.dtype))

    def validation(self, round_):
        raise ValueError
"""


def test_ctrl_c_while_users_are_built_on_ray_leaves_nothing(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_task.py").write_text(SLOW_TO_BUILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tree = runs.changed(LONG, users__template__task={"kind": "slow_task:Slow"})
    running = start(tree, "--transport", "ray")
    running.until(lambda: any("HostActor" in name for name in family_of(running)), 60)
    time.sleep(1)
    running.process.send_signal(signal.SIGINT)
    returncode, stdout, _ = running.finish(20)
    assert (returncode, json.loads(stdout)["status"]) == (130, "stopped")
    manifest = runs.read_json(running.out / "manifest.json")
    assert manifest["status"] == "stopped"
    assert manifest["error"].endswith("was not ready yet: no slot was begun")
    assert running.survivors() == []
    assert running.litter() == set()


def family_of(running: Running) -> list[str]:
    names = []
    for process in psutil.Process(running.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names.append(" ".join(process.cmdline()))
    return names


def hear_ctrl_c() -> None:
    """A shell's background jobs, and what they start, ignore SIGINT until somebody says otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("command", [["run", "scenarios/quickstart.yaml"], ["bench", "slot"]])
def test_ctrl_c_while_torch_is_imported_is_130_and_no_traceback(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "sim", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


def test_the_installed_command_is_the_one_that_minds_its_imports() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["scripts"] == {"equiran": "sim.__main__:main"}
