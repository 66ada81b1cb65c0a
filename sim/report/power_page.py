"""The page of power trainers: one self-contained HTML text and the charts of its PNGs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from sim.report.exports import Rows, flat
from sim.report.folders import run_folders
from sim.report.frame import Context, again, by_name, frame_context, in_words, report_command, template, told_events
from sim.report.power_figures import power_charts
from sim.report.power_read import PowerRun, read_power_runs
from sim.report.power_tables import PowerRow, percent, power_findings, power_lines, power_row, task_lines
from sim.report.style import Chart, style
from sim.report.words import DASH

_SAID = ("inputs", "index", "skip", "straight_through", "schedule", "second_stage", "dual", "w3", "rate", "dual_rate",
         "batch", "tasks_per_step", "places", "calibrate")  # fmt: skip


@dataclass(frozen=True)
class PowerPage:
    """A report before it is written: the HTML, the charts of the PNGs, the row of each run, and nothing compared.

    tables: all of it for export, made when asked for.
    """

    html: str
    charts: list[Chart]
    table: list[PowerRow]
    comparison: Rows
    tables: Callable[[], dict[str, Rows]]


def compose(dirs: Sequence[Path], out: Path | None = None) -> PowerPage:
    """The report of `dirs`, to be written into `out`. Raises UnreadableRun."""
    runs = read_power_runs(run_folders(dirs))
    made = [power_row(run) for run in runs]
    drawn, missing = power_charts(runs)
    with style():
        html = template("power.html.j2").render(
            _context(runs, made, drawn, missing) | {"report": report_command((run.folder for run in runs), out)}
        )
    return PowerPage(html, drawn, made, [], lambda: _tables(made))


def rows(dirs: Sequence[Path]) -> list[PowerRow]:
    """One per run. Raises UnreadableRun."""
    return [power_row(run) for run in read_power_runs(dirs)]


def _tables(made: list[PowerRow]) -> dict[str, Rows]:
    tasks = [{"run": row.run, "dir": row.dir, "seed": row.seed, **flat(task)} for row in made for task in row.tasks]
    return {"runs": [flat(asdict(row)) for row in made], "tasks": tasks}


def _context(runs: list[PowerRun], rows: list[PowerRow], drawn: list[Chart], missing: list[str]) -> Context:
    return {
        **frame_context(runs, drawn, missing),
        "rows": rows,
        "facts": by_name([_facts(run) for run in runs]),
        "findings": power_findings(runs, rows),
        "summary": power_lines(rows),
        "limited": task_lines(runs, labelled=False),
        "labelled": task_lines(runs, labelled=True),
        "percent": percent,
        "events": told_events(runs, [""] * len(runs)),
        "reproduce": [
            again(run, [(f"equiran train-power {quote(str(run.folder / 'scenario.yaml'))}", row.digest)])
            for run, row in zip(runs, rows, strict=True)
        ],
    }


def _facts(run: PowerRun) -> dict[str, str]:
    task, manifest = run.task, run.manifest
    problems = task.get("problems") or {}
    return {
        "status": str(manifest.get("status", "unknown")),
        "scheme": str(task.get("scheme", "?")),
        "steps": f"{manifest.get('steps', '?')} of {' + '.join(map(str, task.get('stages') or '?'))}",
        "tasks": "; ".join(_group(group) for group in task.get("tasks") or ()) or DASH,
        "problems": "; ".join(f"{name}: {in_words(said)}" for name, said in problems.items()) or DASH,
        "samples": in_words(task.get("samples")),
        "options": in_words({name: task.get(name) for name in _SAID}),
        "seed": str(manifest.get("seed", "?")),
        "device": str(manifest.get("device", "?")),
        "started": str(manifest.get("started", "?")),
        "finished": str(manifest.get("finished") or "not yet"),
        "error": str(manifest.get("error") or DASH),
    }


def _group(group: Any) -> str:
    users = group.get("users") or ()
    return f"{group.get('problem')}, N = {', '.join(map(str, users))}"
