"""What every page has: its template, its pictures, its events, and how to make its runs again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
from markupsafe import Markup

from sim.report.records import Json
from sim.report.style import INK, MUTED, RUN_COLOURS, RUN_COLOURS_DARK, Chart, svg
from sim.report.summary import Line
from sim.report.tables import event_counts, event_kind
from sim.report.words import DASH, listed, number, signed, size

LAST_EVENTS = 20
VERSIONS = ("equiran", "python", "torch", "ray", "grpc", "numpy")

Context = dict[str, Any]


class Told(Protocol):
    """What a page says of any run."""

    @property
    def label(self) -> str:
        """Tells it from the others on the page."""
        ...

    @property
    def manifest(self) -> Json:
        """manifest.json."""
        ...

    @property
    def events(self) -> tuple[Json, ...]:
        """events.jsonl."""
        ...


def template(name: str) -> jinja2.Template:
    """One of the `.html.j2` files beside this one."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    names = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names.filters.update(number=number, signed=signed, size=size)
    return names.get_template(name)


def frame_context(runs: Sequence[Told], drawn: Sequence[Chart], missing: Sequence[str]) -> Context:
    """What `frame.html.j2` and `parts.html.j2` need for all pages alike."""
    return {
        "title": str(runs[0].manifest.get("name", runs[0].label)),
        "runs": runs,
        "colours": list(zip(RUN_COLOURS, RUN_COLOURS_DARK, strict=True)),
        "ink": (INK, MUTED),
        "charts": [(chart, _svgs(chart)) for chart in drawn],
        "missing": listed([*missing]),
        "last_events": LAST_EVENTS,
    }


def by_name(columns: Sequence[dict[str, str]]) -> list[Line]:
    """Facts of each run, under equal names, as lines of a table; one that no run knows is left out."""
    lines = [Line(name, [column[name] for column in columns]) for name in columns[0]]
    return [line for line in lines if set(line.cells) != {DASH}]


def told_events(runs: Sequence[Told]) -> list[tuple[int, Told, list[tuple[str, int]], list[tuple[str, str, str]]]]:
    """Of each run: its place, itself, its events by kind, and the last ones as (time, kind, everything else)."""
    return [(index, run, event_counts(run.events), _last(run)) for index, run in enumerate(runs)]


def again(run: Told, command: str, digest: str | None) -> dict[str, str]:
    """The command, the digest it should print, the versions and threads it ran with."""
    return {
        "label": run.label,
        "command": command,
        "digest": digest or "none yet",
        "versions": ", ".join(f"{name} {run.manifest[name]}" for name in VERSIONS if name in run.manifest),
        "threads": in_words(run.manifest.get("threads")),
        "device": str(run.manifest.get("device", "?")),
    }


def in_words(part: Any) -> str:
    """A part of the scenario on one line: its kind, then its settings."""
    if not isinstance(part, dict):
        return "?" if part is None else str(part)
    rest = [f"{key} {_value(value)}" for key, value in part.items() if key != "kind" and value is not None]
    return ", ".join([str(part["kind"]), *rest] if "kind" in part else rest)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + in_words(value) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _svgs(chart: Chart) -> list[Markup]:
    return [Markup(svg(panel, f"{chart.key}{index}")) for index, panel in enumerate(chart.panels)]


def _last(run: Told) -> list[tuple[str, str, str]]:
    return [(str(event.get("time", "")), event_kind(event), _details(event)) for event in run.events[-LAST_EVENTS:]]


def _details(event: Json) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in event.items() if key not in ("time", "event"))
