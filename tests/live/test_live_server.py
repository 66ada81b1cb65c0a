"""`equiran watch` and `run --watch` as processes: news of a living run, its buttons, and how they end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from growing import Growing
from pages import ROOT, News, Served, act, asked, served

import runs

DEAF = """
import signal, time
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
print("deaf", flush=True)
time.sleep(60)
"""
LONG = runs.kernel(many=3, rounds=100_000, slots=20)


class Run:
    """`equiran run`, or `equiran resume`, in a process of its own."""

    def __init__(self, folder: Path, *options: str, resumed: bool = False) -> None:
        self.out = folder / "out"
        new = ["run", str(runs.write(folder, LONG)), "--out", str(self.out)]
        command = ["resume", str(self.out)] if resumed else new
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sim", *command, "--json", "--quiet", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as page:
        yield page


def test_a_run_serves_its_own_page_with_news_and_buttons(tmp_path: Path) -> None:
    run = Run(tmp_path, "--watch")
    try:
        place = told_place(run)
        news = News(place)
        first = news.wait(lambda told: told["head"]["done"] > 0)
        assert (first["head"]["status"], first["users"]["names"]) == ("running", ["user_00", "user_01", "user_02"])
        news.wait(lambda told: told["head"]["done"] > first["head"]["done"] and told["curves"]["utility"]["from"] > 0)

        assert act(place, ".", "pause") == (200, {"done": "pause"})
        held = news.wait(lambda told: told["head"]["status"] == "paused")
        assert any(entry["kind"] == "paused" for entry in held["events"])
        time.sleep(1)
        done = news.told[-1]["head"]["done"]
        time.sleep(1)
        assert news.told[-1]["head"]["done"] == done
        assert act(place, ".", "continue") == (200, {"done": "continue"})
        news.wait(lambda told: told["head"]["status"] == "running" and told["head"]["done"] > done)

        assert act(place, ".", "stop") == (200, {"done": "stop"})
        assert run.process.wait(20) == 130
        news.wait_for_goodbye()
        assert news.told[-1]["head"]["status"] == runs.read_json(run.out / "manifest.json")["status"] == "stopped"
        with pytest.raises(OSError, match="refused"):
            asked(place, "/")
    finally:
        run.end()


def test_a_resumed_run_serves_its_page_too(tmp_path: Path) -> None:
    first = Run(tmp_path, "--stop-after", "20")
    try:
        assert first.process.wait(60) == 0
    finally:
        first.end()
    run = Run(tmp_path, "--watch", resumed=True)
    try:
        news = News(told_place(run))
        living = news.wait(lambda told: told["head"]["status"] == "running" and told["head"]["done"] > 20)
        assert living["head"]["folder"] == str(run.out)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(20) == 130
        news.wait_for_goodbye()
        assert news.told[-1]["head"]["status"] == "stopped"
    finally:
        run.end()


def test_a_run_that_is_killed_takes_its_page_along(tmp_path: Path) -> None:
    run = Run(tmp_path, "--watch")
    place = told_place(run)
    assert asked(place, "/").status == 200
    (child,) = psutil.Process(run.process.pid).children()
    run.end()
    child.wait(10)
    assert not child.is_running()


def told_place(run: Run) -> str:
    assert run.process.stderr is not None
    said = run.process.stderr.readline()
    assert said.startswith("live page: http://127.0.0.1:")
    return said.split("/")[2]


def test_a_run_that_is_over_is_asked_for_nothing(tmp_path: Path, page: Served) -> None:
    growing = Growing(tmp_path / "run")
    growing.grow(1)
    growing.finish()
    refusal = {"detail": "no process runs in this directory"}
    for action in ("stop", "pause", "continue"):
        assert act(page.place, "run", action) == (409, refusal)
    listed = json.loads(page.ask("/api/runs").read())
    assert [(one["name"], one["status"]) for one in listed["runs"]] == [("run", "stopped")]


def test_who_was_asked_to_stop_is_not_asked_twice(tmp_path: Path, page: Served) -> None:
    """A second SIGINT would end a run at once, unsaved."""
    deaf = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    growing = Growing(tmp_path / "run")
    growing.lock(deaf.pid)
    assert act(page.place, "run", "stop") == (200, {"done": "stop"})
    status, told = act(page.place, "run", "stop")
    assert (status, told["detail"].partition(";")[0]) == (409, "the run has been asked to stop already")
    deaf.kill()
    assert deaf.communicate()[0] == "heard\n"


def test_a_run_of_another_machine_is_only_looked_at(tmp_path: Path, page: Served) -> None:
    growing = Growing(tmp_path / "run")
    growing.lock(os.getpid(), host="elsewhere")
    refusal = {"detail": f"the run is process {os.getpid()} on elsewhere; ask it there"}
    for action in ("stop", "pause"):
        assert act(page.place, "run", action) == (409, refusal)
    assert not (growing.folder / "pause").exists()


def test_trouble_is_one_line_and_goes_when_it_is_mended(tmp_path: Path, page: Served) -> None:
    growing = Growing(tmp_path / "run")
    growing.grow(1)
    news = News(page.place, "run")
    news.wait(lambda told: told["head"]["done"] == 1)
    whole = (growing.folder / "scenario.yaml").read_text()
    (growing.folder / "scenario.yaml").write_text("a: [")
    told = news.wait(lambda told: "not YAML" in told["trouble"])
    assert "\n" not in told["trouble"]
    (growing.folder / "scenario.yaml").write_text("edge: 3\nrecord: 7\n")
    news.wait(lambda told: "its files are not what a run writes" in told["trouble"])
    (growing.folder / "scenario.yaml").write_text(whole)
    news.wait(lambda later: not later["trouble"] and news.told.index(later) > news.told.index(told))
    shutil.rmtree(growing.folder)
    assert news.wait(lambda told: told["trouble"])["trouble"]
    news.wait(lambda told: told["trouble"] == f"{growing.folder} is gone")
    assert page.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_says_goodbye_and_leaves_nothing(tmp_path: Path, page: Served, number: signal.Signals) -> None:
    Growing(tmp_path / "run").grow(1)
    news = News(page.place, "run")
    news.wait(lambda told: told["head"]["done"] == 1)
    before = sorted(path for path in tmp_path.rglob("*"))
    start = time.monotonic()
    page.process.send_signal(number)
    code, stdout, stderr = page.end()
    assert time.monotonic() - start < 3
    assert (code, stdout, stderr) == (130 if number == signal.SIGINT else -15, "", "")
    news.wait_for_goodbye()
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.alone
@pytest.mark.alone
def test_it_starts_within_a_second(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        start = time.monotonic()
        with served(tmp_path) as page:
            assert page.ask("/").status == 200
            times.append(time.monotonic() - start)
    assert min(times) < 1.0, times


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        page = Served(str(tmp_path), "--port", str(port))
        code, stdout, stderr = page.end()
    advice = "give another --port, or 0 for any free one"
    assert (code, stdout) == (1, "")
    assert stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use; {advice}\n"


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    page = Served(str(tmp_path / "nothing"))
    said = f"{tmp_path}/nothing: no such directory; give a run directory, or a folder of them\n"
    assert page.end() == (2, "", said)
