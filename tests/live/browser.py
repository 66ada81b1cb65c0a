"""A real Chromium for tests: what a page shows, what it complains about, and what it asks for."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """With a profile of its own. Skips where there is none, or nothing that drives it."""
    driver = pytest.importorskip("playwright.sync_api", reason="the live page is not tested: no playwright here")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("the live page is not tested: no Chromium here (Debian: apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One page in the browser. complaints: what its console says. asked: the hosts that it asked for anything."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))
        self.page.goto(url)

    def until(self, true: str, seconds: float = 20) -> None:
        """Returns once an expression is true; asked from outside, since the page may evaluate nothing itself."""
        until = time.monotonic() + seconds
        while not self.page.evaluate(f"Boolean({true})"):
            assert time.monotonic() < until, f"not true within {seconds} s: {true}"
            self.page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def focused(self) -> str:
        """Where the keyboard is: an id, else what kind of thing."""
        told = "(({id, className, tagName}) => id || className || tagName)(document.activeElement)"
        return str(self.page.evaluate(told))

    def close(self) -> None:
        self.page.close()
