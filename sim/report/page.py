"""The page: one self-contained HTML file and the PNGs beside it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import jinja2
from markupsafe import Markup

from sim.report.figures import charts
from sim.report.read import Json, Run, read_runs
from sim.report.style import INK, MUTED, RUN_COLOURS, RUN_COLOURS_DARK, Chart, png, style, svg
from sim.report.summary import Line, findings, summary_lines
from sim.report.tables import FEW_USERS, Row, UserRow, event_counts, event_kind, extremes, row, together, user_rows
from sim.report.words import DASH, listed, number, size

LAST_EVENTS = 20
VERSIONS = ("equiran", "python", "torch", "ray", "grpc", "numpy")


@dataclass(frozen=True)
class ReportPaths:
    """What `build` wrote, and the summary row of each run on the page."""

    html: Path
    pngs: tuple[Path, ...]
    table: list[Row]


@dataclass(frozen=True)
class Page:
    """A report before it is written: the HTML, the charts of the PNGs, the summary row of each run."""

    html: str
    charts: list[Chart]
    table: list[Row]


def build(dirs: Sequence[Path]) -> ReportPaths:
    """Write report.html and one PNG per chart into the first of `dirs`, from the records alone.

    Runs compared with a run (its sub-folders) are drawn beside it. Raises UnreadableRun, one line, where a
    folder is not a run or a file of it is damaged, and ValueError without any folder.
    """
    page = compose(dirs)
    folder = Path(dirs[0])
    html, pngs = folder / "report.html", tuple(folder / f"{chart.key}.png" for chart in page.charts)
    html.write_text(page.html, encoding="utf-8")
    with style():
        for chart, path in zip(page.charts, pngs, strict=True):
            png(chart, path)
    return ReportPaths(html, pngs, page.table)


def compose(dirs: Sequence[Path]) -> Page:
    """The report of `dirs`, nothing written. Raises as `build` does."""
    if not dirs:
        raise ValueError("report needs at least one run directory")
    runs = read_runs(dirs)
    rows = [row(run) for run in runs]
    drawn, missing = charts(runs)
    with style():
        return Page(_template().render(_context(runs, rows, drawn, missing)), drawn, rows)


def table(dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """The summary rows as plain dictionaries (keys: the fields of `Row`), for text and JSON. Raises UnreadableRun."""
    return [asdict(row(run)) for run in read_runs(dirs)]


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    names = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names.filters.update(number=number, size=size)
    return names.get_template("page.html.j2")


def _context(runs: list[Run], rows: list[Row], drawn: list[Chart], missing: list[str]) -> dict[str, Any]:
    return {
        "title": str(runs[0].manifest.get("name", runs[0].label)),
        "runs": runs,
        "rows": rows,
        "colours": list(zip(RUN_COLOURS, RUN_COLOURS_DARK, strict=True)),
        "ink": (INK, MUTED),
        "facts": _facts(runs),
        "findings": findings(rows),
        "summary": summary_lines(rows),
        "charts": [(chart, _svgs(chart)) for chart in drawn],
        "missing": listed(missing),
        "users": _users(runs),
        "many": any(each.users > FEW_USERS for each in rows),
        "events": [(index, run, event_counts(run), _events(run)) for index, run in enumerate(runs)],
        "last_events": LAST_EVENTS,
        "reproduce": _reproduce(runs),
    }


def _svgs(chart: Chart) -> list[Markup]:
    return [Markup(svg(panel, f"{chart.key}{index}")) for index, panel in enumerate(chart.panels)]


def _facts(runs: list[Run]) -> list[Line]:
    """What was run, one column per run."""
    told = [_fact_column(run) for run in runs]
    lines = [Line(name, [column[name] for column in told]) for name in told[0]]
    return [line for line in lines if set(line.cells) != {DASH}]


def _fact_column(run: Run) -> dict[str, str]:
    edge, manifest = run.scenario.get("edge") or {}, run.manifest
    return {
        "status": str(manifest.get("status", "unknown")),
        "rounds recorded": f"{len(run.rounds.numbers)} of {run.scenario.get('rounds', '?')}",
        "slots per round": str(run.scenario.get("slots", "?")),
        "users": _users_in_words(run),
        "seed": str(manifest.get("seed", "?")),
        "transport": str(manifest.get("transport", "?")),
        "aggregator": _in_words(run.aggregator),
        "encoder": _in_words(edge.get("encoder")),
        "primal": _in_words(edge.get("primal")),
        "outer rule": _in_words(edge.get("meta")),
        "started": str(manifest.get("started", "?")),
        "finished": str(manifest.get("finished") or "not yet"),
        "error": str(manifest.get("error") or DASH),
    }


def _users_in_words(run: Run) -> str:
    """How many users of which task, adversary and front."""
    told = run.scenario.get("users")
    users = [user for user in told if isinstance(user, dict)] if isinstance(told, list) else []
    kinds = Counter(_user_in_words(user) for user in users)
    named = [kind if count == 1 else f"{count} of {kind}" for kind, count in kinds.items() if kind]
    return f"{len(run.rounds.users)}" + (f": {'; '.join(named)}" if named else "")


def _user_in_words(user: Json) -> str:
    adversary = user.get("adversary") or ()
    parts = [user.get("task"), *(adversary if isinstance(adversary, list) else [adversary]), user.get("front")]
    kinds = [str(part["kind"]) for part in parts if isinstance(part, dict) and "kind" in part]
    return " with ".join([kinds[0], ", ".join(kinds[1:])]) if len(kinds) > 1 else "".join(kinds)


def _in_words(part: Any) -> str:
    """A part of the scenario on one line: its kind, then its settings."""
    if not isinstance(part, dict):
        return "?" if part is None else str(part)
    rest = [f"{key} {_value(value)}" for key, value in part.items() if key != "kind" and value is not None]
    return ", ".join([str(part["kind"]), *rest] if "kind" in part else rest)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + _in_words(value) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _users(runs: list[Run]) -> list[tuple[str, list[UserRow]]]:
    """Rows of the user table in groups: by user, or by run where there are too many users for that."""
    rows = [user_rows(run, index) for index, run in enumerate(runs)]
    if any(len(each) > FEW_USERS for each in rows):
        return [(run.label, [*extremes(each), together(each)]) for run, each in zip(runs, rows, strict=True) if each]
    names = dict.fromkeys(found.user for each in rows for found in each)
    return [(name, [found for each in rows for found in each if found.user == name]) for name in names]


def _events(run: Run) -> list[tuple[str, str, str]]:
    """The last events as (time, kind, everything else)."""
    return [(str(event.get("time", "")), event_kind(event), _details(event)) for event in run.events[-LAST_EVENTS:]]


def _details(event: Json) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in event.items() if key not in ("time", "event"))


def _reproduce(runs: list[Run]) -> list[dict[str, str]]:
    """Per run: the command, the digest it should print, the versions and threads it ran with."""
    return [
        {
            "label": run.label,
            "command": f"equiran run {quote(str(run.folder / 'scenario.yaml'))}"
            + (f" --transport {run.manifest['transport']}" if "transport" in run.manifest else ""),
            "digest": row(run).digest or "none yet",
            "versions": ", ".join(f"{name} {run.manifest[name]}" for name in VERSIONS if name in run.manifest),
            "threads": _in_words(run.manifest.get("threads")),
            "device": str(run.manifest.get("device", "?")),
        }
        for run in runs
    ]
