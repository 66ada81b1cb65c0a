"""The live page as a process of its own, and what a browser says to it."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

ROOT = Path(__file__).parent.parent.parent


class Served:
    """`equiran watch`, answering. url: as it printed it."""

    def __init__(self, *line: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sim", "watch", *line],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return urlsplit(self.url).netloc

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
        return asked(self.place, path, method, body, **headers)

    def end(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, stdout, stderr


def asked(place: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> HTTPResponse:
    """The answer, not yet read. Underscores in the names of headers are dashes."""
    connection = HTTPConnection(place, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json", **named})
    return connection.getresponse()


def act(place: str, run: str, action: str) -> tuple[int, Any]:
    """What a button of the page does: status, and what is said."""
    answer = asked(place, "/api/control", "POST", {"run": run, "action": action}, Origin=f"http://{place}")
    return answer.status, json.loads(answer.read())


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Served]:
    """The page of what is under `folder`, on a port of its own."""
    page = Served(str(folder), "--port", "0", *options)
    try:
        yield page
    finally:
        if page.process.poll() is None:
            page.process.kill()
        page.process.communicate()


class News(threading.Thread):
    """What a page is told of a run, as it comes."""

    def __init__(self, place: str, run: str = ".") -> None:
        super().__init__(daemon=True)
        self._answer = asked(place, f"/api/stream?run={quote(run)}")
        self.told: list[dict[str, Any]] = []
        self.goodbye = False
        self._more = threading.Condition()
        self.start()

    def run(self) -> None:
        for line in self._answer:
            with self._more:
                self.goodbye = self.goodbye or line == b"event: goodbye\n"
                if (found := re.match(rb"data: (.+)", line)) and not self.goodbye:
                    self.told.append(json.loads(found[1]))
                self._more.notify_all()

    def wait(self, true: Any, seconds: float = 20) -> dict[str, Any]:
        """The first news of which it is true."""
        with self._more:
            assert self._more.wait_for(lambda: any(map(true, self.told)), seconds), self.told[-1:]
            return next(filter(true, self.told))

    def wait_for_goodbye(self) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self.goodbye, 20)
