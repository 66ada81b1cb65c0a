"""The page of runs with slots: one self-contained HTML text and the charts of its PNGs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from sim.report.figures import charts
from sim.report.frame import Context, again, by_name, frame_context, in_words, template, told_events
from sim.report.read import Run, read_runs
from sim.report.records import Json
from sim.report.style import Chart, style
from sim.report.summary import Line, findings, summary_lines
from sim.report.tables import FEW_USERS, Row, UserRow, extremes, row, together, user_rows
from sim.report.words import DASH


@dataclass(frozen=True)
class Page:
    """A report before it is written: the HTML, the charts of the PNGs, the summary row of each run."""

    html: str
    charts: list[Chart]
    table: list[Row]


def compose(dirs: Sequence[Path]) -> Page:
    """The report of `dirs`, nothing written. Raises as `build` does."""
    if not dirs:
        raise ValueError("report needs at least one run directory")
    runs = read_runs(dirs)
    rows = [row(run) for run in runs]
    drawn, missing = charts(runs)
    with style():
        return Page(template("page.html.j2").render(_context(runs, rows, drawn, missing)), drawn, rows)


def table(dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """The summary rows as plain dictionaries (keys: the fields of `Row`), for text and JSON. Raises UnreadableRun."""
    return [asdict(row(run)) for run in read_runs(dirs)]


def _context(runs: list[Run], rows: list[Row], drawn: list[Chart], missing: list[str]) -> Context:
    return {
        **frame_context(runs, drawn, missing),
        "rows": rows,
        "facts": _facts(runs),
        "findings": findings(rows),
        "summary": summary_lines(rows),
        "users": _users(runs),
        "many": any(each.users > FEW_USERS for each in rows),
        "events": [(*told, _answers(run)) for told, run in zip(told_events(runs), runs, strict=True)],
        "reproduce": _reproduce(runs),
    }


def _answers(run: Run) -> str:
    if run.slots is None:
        return ""
    counts = [f"{by_user.sum()} {status}" for status, by_user in run.slots.statuses.items()]
    return f"; answers: {', '.join(counts)}"


def _facts(runs: list[Run]) -> list[Line]:
    """What was run, one column per run."""
    return by_name([_fact_column(run) for run in runs])


def _fact_column(run: Run) -> dict[str, str]:
    edge, manifest = run.scenario.get("edge") or {}, run.manifest
    return {
        "status": str(manifest.get("status", "unknown")),
        "rounds recorded": f"{len(run.rounds.numbers)} of {run.scenario.get('rounds', '?')}",
        "slots per round": str(run.scenario.get("slots", "?")),
        "users": _usersin_words(run),
        "seed": str(manifest.get("seed", "?")),
        "transport": str(manifest.get("transport", "?")),
        "aggregator": in_words(run.aggregator),
        "encoder": in_words(edge.get("encoder")),
        "primal": in_words(edge.get("primal")),
        "outer rule": in_words(edge.get("meta")),
        **_air(run.scenario),
        "started": str(manifest.get("started", "?")),
        "finished": str(manifest.get("finished") or "not yet"),
        "error": str(manifest.get("error") or DASH),
    }


def _air(scenario: Json) -> dict[str, str]:
    """What messages go through, and who is waited for; dashes without a radio, without a coding."""
    radio = scenario.get("radio")
    coding = scenario.get("compression")
    return {
        "radio": in_words(radio) if radio else DASH,
        "deadline": f"{scenario['deadline']:g} s, {scenario.get('on_user_failure')}"
        if scenario.get("deadline")
        else DASH,
        "compression": DASH if coding in (None, "none") else in_words(coding),
    }


def _usersin_words(run: Run) -> str:
    """How many users of which task, adversary and front."""
    told = run.scenario.get("users")
    users = [user for user in told if isinstance(user, dict)] if isinstance(told, list) else []
    kinds = Counter(_userin_words(user) for user in users)
    named = [kind if count == 1 else f"{count} of {kind}" for kind, count in kinds.items() if kind]
    return f"{len(run.rounds.users)}" + (f": {'; '.join(named)}" if named else "")


def _userin_words(user: Json) -> str:
    adversary = user.get("adversary") or ()
    parts = [user.get("task"), *(adversary if isinstance(adversary, list) else [adversary]), user.get("front")]
    kinds = [str(part["kind"]) for part in parts if isinstance(part, dict) and "kind" in part]
    return " with ".join([kinds[0], ", ".join(kinds[1:])]) if len(kinds) > 1 else "".join(kinds)


def _users(runs: list[Run]) -> list[tuple[str, list[UserRow]]]:
    """Rows of the user table in groups: by user, or by run where there are too many users for that."""
    rows = [user_rows(run, index) for index, run in enumerate(runs)]
    if any(len(each) > FEW_USERS for each in rows):
        return [(run.label, [*extremes(each), together(each)]) for run, each in zip(runs, rows, strict=True) if each]
    names = dict.fromkeys(found.user for each in rows for found in each)
    return [(name, [found for each in rows for found in each if found.user == name]) for name in names]


def _reproduce(runs: list[Run]) -> list[dict[str, str]]:
    """Per run: the command, the digest it should print, the versions and threads it ran with."""
    return [
        again(
            run,
            f"equiran run {quote(str(run.folder / 'scenario.yaml'))}"
            + (f" --transport {run.manifest['transport']}" if "transport" in run.manifest else ""),
            row(run).digest,
        )
        for run in runs
    ]
