"""The live page in a real headless Chromium: it loads, moves, can be read and used, and asks nobody but its watcher."""

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Visit, chromium
from growing import ON_AIR, Growing
from pages import Served, served

import kills
import runs

NAMED = "e => Boolean(e.innerText || e.labels?.length || e.getAttribute('aria-labelledby'))"
CONTRAST = """() => {
  const linear = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
  const paper = (e) => {
    const colour = numbers(getComputedStyle(e).backgroundColor);
    return colour.length === 4 && colour[3] === 0 ? paper(e.parentElement) : colour;
  };
  const said = (e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const shown = [...document.querySelectorAll("main :not(svg *), footer")].filter((e) => e.checkVisibility());
  return shown.filter(said).map((e) => {
    const both = [light(numbers(getComputedStyle(e).color)), light(paper(e))];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  });
}"""
"""Of every text with what it stands on, as WCAG counts it."""
RECOVERED = "[...document.querySelectorAll('#events .good')].some((e) => e.textContent.includes('recovered'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a radio, and one of 64 users that grows in the tests."""
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor() as beside_the_browser:
        tree = runs.kernel(many=3, rounds=8, slots=9, **ON_AIR)
        beside_the_browser.submit(runs.run, folder, tree).result().folder.rename(folder / "air")
    return folder


@pytest.fixture(scope="module")
def watcher(folder: Path) -> Iterator[Served]:
    with served(folder) as page:
        yield page


@pytest.fixture
def visit(browser: Any, watcher: Served) -> Iterator[Callable[..., Visit]]:
    """Whatever a page shows, it complains about nothing and asks nobody but its watcher."""
    made: list[Visit] = []

    def go(run: str, **options: Any) -> Visit:
        made.append(Visit(browser, f"{watcher.url}#run={run}", **options))
        made[-1].until("!document.getElementById('run').hidden")
        return made[-1]

    yield go
    for one in made:
        one.close()
        assert one.complaints == []
        assert one.asked == {watcher.place}


def test_it_loads_and_moves_with_sixty_four_users(visit, folder: Path) -> None:
    growing = Growing(folder / "many", users=64, rounds=40)
    growing.event(event="join", user="user_00")
    growing.grow(3)
    page = visit("many")
    assert page.text("h1") == "growing"
    assert page.text("#status") == "running"
    assert page.page.locator("#map circle.dot").count() == 64
    assert page.page.locator("#users tbody tr").count() == 64
    assert page.text("#far") == "3 of 40 rounds of 4 slots"
    assert "join" in page.text("#events")
    assert page.page.evaluate("curves.utility.x.length") == 12
    before = page.text("#tiles")
    for done in (4, 7):
        growing.grow(done - growing.done)
        page.until(f"document.getElementById('far').textContent.startsWith('{done} of')")
        assert page.page.evaluate("[curves.utility.x.length, curves.fairness.x.length]") == [4 * done, done]
    assert page.text("#tiles") != before
    assert page.page.evaluate("curves.utility.plot.data[0].length") == 28
    growing.event(event="lost", user="user_05", round=7, slot=1, reason="the stream broke")
    page.until("document.querySelector('#events .bad')?.textContent.includes('the stream broke')")
    growing.finish()
    page.until("document.getElementById('status').textContent === 'stopped'")
    assert page.page.get_by_role("button", name="Stop").is_disabled()


def test_what_it_shows_is_what_it_was_told(visit, folder: Path) -> None:
    page = visit("air")
    summary = runs.read_json(folder / "air" / "summary.json")
    tiles = page.text("#tiles")
    assert f"Missed deadlines\n{summary['deadline_misses']:,}\n" in tiles
    assert f"{summary['worst_utility']:#.4g}" in tiles
    rows = runs.rounds(folder / "air")
    shown = np.array(page.page.evaluate("curves.fairness.y[0]"), float)
    np.testing.assert_allclose(shown, rows["fairness"][::3], rtol=1e-5)
    assert page.page.locator("#power rect").count() == 3
    assert "dB" in page.text("#map")


def test_every_chart_has_a_name_and_a_table(visit) -> None:
    page = visit("air")
    charts = page.page.get_by_role("img")
    for k in range(charts.count()):
        assert len(charts.nth(k).get_attribute("aria-label") or "") > 40
    for name in ("utility", "weight", "fairness"):
        page.page.locator(f"#{name} summary").press("Enter")
        table = page.page.locator(f"#{name} table")
        table.wait_for()
        last = page.page.evaluate(f"digits(curves.{name}.y[0].at(-1))")
        assert table.locator("tbody tr").first.locator("td").first.inner_text() == last
    for role in ("button", "combobox", "progressbar"):
        found = page.page.get_by_role(role).all()
        assert found
        assert all(one.evaluate(NAMED) for one in found)
    assert page.page.locator("html").get_attribute("lang") == "en"
    assert page.page.locator("h1").count() == 1


def test_it_can_be_used_from_the_keyboard(visit, folder: Path) -> None:
    growing = Growing(folder / "keys", users=3)
    growing.grow(5)
    page = visit("keys")
    keys = page.page.keyboard
    seen = []
    for _ in range(40):
        keys.press("Tab")
        seen.append(page.focused())
        if seen[-1] == "user-0":
            break
    assert seen[:4] == ["skip", "picker", "pause", "stop"]
    assert {"plot", "SUMMARY", "events", "user-0"} <= {*seen}
    ring = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    keys.press("Enter")
    assert page.page.locator("#map .chosen").count() == 1
    assert page.focused() == "user-0"
    plot = page.page.locator("#utility .plot")
    plot.focus()
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")
    page.until("document.querySelector('#utility .plot').getAttribute('aria-label').includes('round 4.25')")
    growing.grow(1)
    page.until("curves.utility.x.length === 24")
    assert "round 4.25" in (plot.get_attribute("aria-label") or "")
    keys.press("End")
    page.until("document.querySelector('#utility .plot').getAttribute('aria-label').includes('round 5.75')")
    page.page.locator("#by-1").press("Enter")
    assert page.page.locator("#users th[aria-sort]").inner_text().startswith("mean utility")
    page.page.locator("#stop").press("Enter")
    assert page.page.locator("#sure").is_visible()
    keys.press("Escape")
    assert page.page.locator("#sure").is_hidden()
    page.page.locator("#pause").press("Enter")
    page.until("document.getElementById('pause').textContent === 'Go on'")
    assert (growing.folder / "pause").exists()


@pytest.mark.parametrize("run", ["air", "many_narrow"])
def test_a_narrow_screen_holds_it(visit, folder: Path, run: str, tmp_path: Path) -> None:
    if run != "air":
        Growing(folder / run, users=64).grow(3)
    page = visit(run, viewport={"width": 375, "height": 812})
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 375
    for card in page.page.locator(".card:visible").all():
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
    assert page.page.screenshot(path=tmp_path / "narrow.png", full_page=True)[:4] == b"\x89PNG"


def test_light_and_dark_can_both_be_read(visit) -> None:
    def contrasts(scheme: str) -> list[float]:
        page = visit("air", color_scheme=scheme)
        return page.page.evaluate(CONTRAST)

    light, dark = contrasts("light"), contrasts("dark")
    assert min(light) >= 4.5
    assert min(dark) >= 4.5
    page = visit("air", color_scheme="light")
    drawn = page.page.evaluate("curves.utility.plot.series[1].stroke()")
    page.page.emulate_media(color_scheme="dark")
    page.until(f"curves.utility.plot.series[1].stroke() !== '{drawn}'")


def test_a_run_that_vanishes_is_a_line_on_the_page(visit, folder: Path) -> None:
    growing = Growing(folder / "gone")
    growing.grow(1)
    page = visit("gone")
    shutil.rmtree(growing.folder)
    page.until("!document.getElementById('trouble').hidden")
    alert = page.page.get_by_role("alert")
    page.until("document.getElementById('trouble').textContent.endsWith('gone is gone')")
    assert alert.inner_text() == f"{growing.folder} is gone"


def test_any_past_run_can_be_picked(visit, folder: Path) -> None:
    Growing(folder / "other").grow(2)
    page = visit("air")
    page.until("document.getElementById('picker').options.length > 1")
    page.page.select_option("#picker", "other")
    page.until("document.querySelector('h1').textContent === 'growing'")
    assert page.page.url.endswith("#run=other")
    assert page.page.locator("#power").is_hidden()


def test_the_end_of_the_watcher_is_said(browser: Any, tmp_path: Path) -> None:
    Growing(tmp_path / "run").grow(1)
    with served(tmp_path) as watcher:
        page = Visit(browser, f"{watcher.url}#run=run")
        page.until("!document.getElementById('run').hidden")
        watcher.process.terminate()
        page.until("document.getElementById('why').textContent.startsWith('The watcher has ended')")
        assert page.complaints == []
        page.close()


def test_it_survives_an_edge_that_is_killed(browser: Any, tmp_path: Path) -> None:
    """On Ray: the run takes itself up again, and the page goes on with it."""
    tree = runs.kernel(many=4, rounds=2000, slots=20, hosts=1, checkpoints={"seconds": 0})
    with served(tmp_path) as watcher, kills.started(tmp_path, tree, "--transport", "ray") as running:
        while not (running.out / "rounds.arrows").exists():
            threading.Event().wait(0.05)
        page = Visit(browser, f"{watcher.url}#run=out")
        page.until("head?.done > 2", 60)
        killing = threading.Thread(target=running.kill_one, args=(kills.EDGE, random.Random(0)))
        killing.start()
        page.until(RECOVERED, 60)
        done = page.page.evaluate("head.done")
        page.until(f"head.done > {done} && head.status === 'running'", 60)
        killing.join()
        page.page.click("#pause")
        page.until("head.status === 'paused'", 60)
        page.page.click("#pause")
        page.until("head.status === 'running'", 60)
        page.page.click("#stop")
        page.page.click("#yes")
        page.until("head.status === 'stopped'", 60)
        assert page.text("#trouble") == ""
        assert page.complaints == []
        assert running.ended()[0] == 130
        page.close()
