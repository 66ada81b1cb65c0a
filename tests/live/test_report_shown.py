"""A report in a real headless Chromium: wide, narrow and on paper nothing is cut, and nobody is asked for anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from growing import ON_AIR

import runs
from sim.report.page import compose

CUT = """() => [...document.querySelectorAll("table, svg, pre, figcaption")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + e.textContent.slice(0, 80))"""
FOLDED = "() => [...document.querySelectorAll('details pre, details table')].filter((e) => !e.checkVisibility()).length"
A4 = 680
"""CSS pixels between margins of 15 mm."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two seeds of a run with a radio, and of one that stands beside it."""
    folder = tmp_path_factory.mktemp("runs")
    beside = [{"name": "the_rule_with_the_longest_name", "edge.aggregator": {"kind": "constant", "weights": "equal"}}]
    tree = runs.kernel(many=3, rounds=3, slots=9, compare=beside, **ON_AIR)
    made = [runs.run(folder / str(seed), {**tree, "seed": seed}).folder for seed in (1, 2)]
    html = folder / "report.html"
    html.write_text(compose(made).html, encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda said: complaints.append(said.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{html}")
        yield page
        assert complaints == []
        assert asked == [f"file://{html}"]


def test_all_of_it_is_there(page: Any) -> None:
    headings = page.locator("h2").all_inner_texts()
    assert headings[:4] == ["Summary", "Comparison", "Means over seeds", "Differences from kernel"]
    assert {"What each user pays", "What went wrong", "How to reproduce", "Single runs"} <= {*headings}


def test_a_narrow_screen_scrolls_tables_and_not_the_page(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_paper_cuts_nothing_and_unfolds_everything(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size({"width": A4, "height": 900})
    assert page.evaluate(FOLDED) > 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(CUT) == []
    assert page.evaluate(FOLDED) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(path=tmp_path / "report.pdf", format="A4")[:5] == b"%PDF-"
