"""The page of runs with slots: one self-contained HTML text and the charts of its PNGs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from sim.report.comparison import ANOTHER_LENGTH, ANOTHER_MEASURE, OF_THE_MACHINE, Compared, compared, sentences
from sim.report.comparison_table import comparison_table
from sim.report.exports import Rows, comparison_rows, tables
from sim.report.figures import charts
from sim.report.folders import run_folders
from sim.report.frame import (
    Context,
    again,
    by_name,
    frame_context,
    in_words,
    report_command,
    template,
    told_events,
)
from sim.report.groups import Group, grouped, seeds_in_words, told_apart
from sim.report.intervals import interval_charts
from sim.report.read import Run, read_runs
from sim.report.records import Json
from sim.report.style import Chart, style
from sim.report.summary import Line, cautions, findings, summary_lines
from sim.report.tables import FEW_USERS, Row, UserRow, extremes, row, together, user_rows
from sim.report.words import DASH, count

MOST_DRAWN = 12
"""Runs or groups whose names have room beside their lines."""
_VERDICTS = {
    ANOTHER_MEASURE: "Another measure: fairness and regret at another alpha, u_min, u_max or number of users are not "
    "the same number.",
    ANOTHER_LENGTH: "Another length: means over another number of rounds are of another time in training.",
    OF_THE_MACHINE: "Of the machine: it is not the method's, and gets no verdict.",
}
"""What is said of verdicts that a comparison has."""
_CHANGES = 6
"""Values of a scenario that are named as other than the first group's."""


@dataclass(frozen=True)
class Page:
    """A report before it is written: the HTML, the charts of the PNGs, the row of each run, groups compared.

    tables: all of it for export, made when asked for.
    """

    html: str
    charts: list[Chart]
    table: list[Row]
    comparison: Rows
    tables: Callable[[], dict[str, Rows]]


def compose(dirs: Sequence[Path], out: Path | None = None) -> Page:
    """The report of `dirs`, to be written into `out`. Raises as `build` does."""
    if not dirs:
        raise ValueError("report needs at least one run directory")
    runs = read_runs(run_folders(dirs))
    groups = grouped(runs)
    lines = compared(groups)
    drawn, missing = charts([group.mean for group in groups[:MOST_DRAWN]])
    drawn = [*interval_charts(groups, lines), *drawn]
    with style():
        html = template("page.html.j2").render(
            _context(groups, lines, drawn, missing) | {"report": report_command(dirs, out)}
        )
    rows = [row(run) for run in runs]
    return Page(html, drawn, rows, comparison_rows(groups, lines), lambda: tables(groups, lines))


def _context(groups: list[Group], lines: list[Compared], drawn: list[Chart], missing: list[str]) -> Context:
    runs = [group.mean for group in groups]
    rows = [row(run) for run in runs]
    seeded = any(len(group.runs) > 1 for group in groups)
    alike = _alike(groups)
    one_measure = len({groups[index].scoring for index in alike}) == 1
    single = findings([rows[index] for index in alike], one_measure=one_measure)
    return {
        **frame_context(runs, drawn, missing),
        "rows": rows,
        "groups": groups,
        "seeded": seeded,
        "lengths": _lengths(rows),
        "seeds": seeds_in_words(groups[0].seeds),
        "facts": _facts(groups),
        "findings": [*(sentences(groups, lines) if seeded else single), *cautions(rows)],
        "summary": summary_lines(rows, () if seeded else alike, one_measure=one_measure),
        "comparison": comparison_table(lines if seeded or len(groups) > 1 else []),
        "verdicts": _VERDICTS,
        "unranked": len(alike) < len(groups),
        "unfinished": [group.label for group in groups if not group.done],
        "users": _users(runs),
        "many": any(each.users > FEW_USERS for each in rows),
        "bill": any(run.summary.get("bill") for run in runs),
        "most_drawn": MOST_DRAWN,
        "events": told_events(runs, [_answers(group) for group in groups]),
        "reproduce": [again(group.mean, [*map(_command, group.runs)]) for group in groups],
    }


def _alike(groups: Sequence[Group]) -> list[int]:
    """Which are finished, and as long as the first of those: others are shown, and not ranked among them."""
    done = [index for index, group in enumerate(groups) if group.done]
    return [index for index in done if groups[index].length == groups[done[0]].length]


def _lengths(rows: Sequence[Row]) -> str:
    """12 to 40 rounds of 25 slots, 2 users."""
    rounds, users = _span([row.rounds for row in rows]), _span([row.users for row in rows])
    of_slots = f" of {_span(slots)} slots" if (slots := [row.slots for row in rows if row.slots]) else ""
    return f"{rounds} rounds{of_slots}, {users} user{'' if users == '1' else 's'}"


def _span(values: Sequence[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _answers(group: Group) -> str:
    slots = group.mean.slots
    if slots is None:
        return ""
    counts = [f"{count(by_user.sum())} {status}" for status, by_user in slots.statuses.items()]
    return f"; answers{' per run' if len(group.runs) > 1 else ''}: {', '.join(counts)}"


def _facts(groups: list[Group]) -> list[Line]:
    """What was run, one column per group."""
    return by_name([_fact_column(group, groups[0]) for group in groups])


def _fact_column(group: Group, base: Group) -> dict[str, str]:
    run = group.mean
    edge, manifest = run.scenario.get("edge") or {}, run.manifest
    changes = told_apart(group, base)
    return {
        "status": str(manifest.get("status", "unknown")),
        "rounds recorded": f"{len(run.rounds.numbers)} of {run.scenario.get('rounds', '?')}",
        "slots per round": str(run.scenario.get("slots", "?")),
        "users": _usersin_words(run),
        "seed": seeds_in_words(group.seeds).partition(" ")[2],
        "transport": str(manifest.get("transport", "?")),
        "aggregator": in_words(run.aggregator),
        f"not as {base.label}": "; ".join(changes[:_CHANGES]) + ("; .." if changes[_CHANGES:] else "") or DASH,
        "encoder": in_words(edge.get("encoder")),
        "robust rule": in_words(edge["robust"]) if edge.get("robust") else DASH,
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


def _command(run: Run) -> tuple[str, str | None]:
    """What makes the run again, and the digest it should print."""
    transport = f" --transport {run.manifest['transport']}" if "transport" in run.manifest else ""
    return f"equiran run {quote(str(run.folder / 'scenario.yaml'))}{transport}", row(run).digest
