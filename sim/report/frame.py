"""What every page has: its template, its pictures, its events, and how to make its runs again."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, Protocol

import jinja2
from markupsafe import Markup

from sim.report.events import BAD, GOOD, event_counts, event_kind
from sim.report.records import Json
from sim.report.style import INK, MUTED, RUN_COLOURS, RUN_COLOURS_DARK, Chart, colour_place, run_glyph, svg
from sim.report.summary import Line
from sim.report.words import DASH, breakable, count, listed, number, seconds, signed, size

LAST_EVENTS, TROUBLES = 20, 100
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
    names.filters.update(breakable=breakable, number=number, signed=signed, size=size, count=count, seconds=seconds)
    names.filters.update(colour_place=colour_place, run_glyph=run_glyph)
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


class Happened(NamedTuple):
    """The events of a run. counts: by kind. troubles: how many are trouble, or its end. Lists: time, kind, the rest."""

    place: int
    run: Told
    answers: str
    counts: list[tuple[str, int]]
    troubles: int
    listed: list[tuple[str, str, str]]
    last: list[tuple[str, str, str]]


def told_events(runs: Sequence[Told], answers: Sequence[str]) -> list[Happened]:
    """Of each run; answers: what else to say of it."""
    return [_happened(index, run, more) for index, (run, more) in enumerate(zip(runs, answers, strict=True))]


def _happened(index: int, run: Told, answers: str) -> Happened:
    troubles = [event for event in run.events if event_kind(event) in BAD | GOOD]
    counts = event_counts(run.events)
    shown = _lines(troubles[:TROUBLES])
    return Happened(index, run, answers, counts, len(troubles), shown, _lines(run.events[-LAST_EVENTS:]))


def again(run: Told, commands: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    """Each command with the digest it should print, the versions and threads they ran with."""
    return {
        "label": run.label,
        "commands": [(command, digest or "none yet") for command, digest in commands],
        "versions": ", ".join(f"{name} {run.manifest[name]}" for name in VERSIONS if name in run.manifest),
        "threads": in_words(run.manifest.get("threads")),
        "device": str(run.manifest.get("device", "?")),
    }


def report_command(folders: Iterable[Path], out: Path | None) -> str:
    """What makes this page again."""
    there = f" --out {quote(str(out))}" if out else ""
    return f"equiran report {' '.join(quote(str(folder)) for folder in folders)}{there}"


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


def _lines(events: Sequence[Json]) -> list[tuple[str, str, str]]:
    return [(str(event.get("time", "")), event_kind(event), _details(event)) for event in events]


def _details(event: Json) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in event.items() if key not in ("time", "event"))
