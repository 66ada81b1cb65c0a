"""What the page says of power trainers in numbers; every one is in `power.json` or a mean or extreme of its tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.report.power_read import PowerRun
from sim.report.records import Json
from sim.report.summary import Line
from sim.report.words import DASH, listed, number, seconds


@dataclass(frozen=True)
class PowerRow:
    """One training run in one line; None where its records do not say, as before it is done.

    least_percent, mean_percent: of the tasks' optima. over: largest |mean power - limit| of a task in W, over_user:
    largest mean power - limit of one user in W. gap: mean over tasks with labels of the mean gap. passed: tasks whose
    rate is above the threshold rule's, of `limited` tasks that have one.
    """

    run: str
    dir: str
    status: str
    scheme: str
    seed: int | None
    steps: int
    bdnn_parameters: int | None
    least_percent: float | None
    mean_percent: float | None
    over: float | None
    over_user: float | None
    gap: float | None
    passed: int | None
    limited: int
    train_seconds: float | None
    digest: str | None
    tasks: list[Json]


@dataclass(frozen=True)
class TaskLines:
    """One task: its name, and per run its place and its entry of `power.json`."""

    task: str
    entries: list[tuple[int, Json]]


def power_row(run: PowerRun) -> PowerRow:
    """The numbers of one run."""
    power, manifest = run.power, run.manifest
    tasks = list(power.get("tasks") or ())
    shares, gaps = _known(tasks, "percent_of_optimum"), _known(tasks, "gap_mean")
    ruled = [task for task in tasks if task.get("threshold") is not None]
    return PowerRow(
        run=run.label,
        dir=str(run.folder),
        status=str(manifest.get("status", "unknown")),
        scheme=str(run.task.get("scheme", "routed")),
        seed=manifest.get("seed"),
        steps=int(manifest.get("steps") or 0),
        bdnn_parameters=power.get("bdnn_parameters"),
        least_percent=min(shares, default=None),
        mean_percent=_mean(shares),
        over=max((abs(value) for value in _known(tasks, "violation_mean")), default=None),
        over_user=max(_known(tasks, "violation_max"), default=None),
        gap=_mean(gaps),
        passed=sum(task["rate"] > task["threshold"] for task in ruled) if ruled else None,
        limited=len(ruled),
        train_seconds=power.get("train_seconds"),
        digest=manifest.get("digest"),
        tasks=tasks,
    )


def power_lines(rows: Sequence[PowerRow]) -> list[Line]:
    """One line per measure; the best of several runs is marked; lines that no run fills are left out."""
    lines = [
        _line("% of the optimum, least of all tasks", rows, lambda row: row.least_percent, max),
        _line("% of the optimum, mean", rows, lambda row: row.mean_percent, max),
        _line("mean power off its limit, worst task, W", rows, lambda row: row.over, min),
        _line("one user's mean power over its limit, worst, W", rows, lambda row: row.over_user, min),
        Line("tasks above the threshold rule", [_of(row.passed, row.limited) for row in rows]),
        _line("mean gap of tasks with labels, %", rows, lambda row: None if row.gap is None else 100 * row.gap, min),
        Line("parameters of the bDNN", [_whole(row.bdnn_parameters) for row in rows]),
        Line("steps", [f"{row.steps:,}" for row in rows]),
        Line("training time", [seconds(row.train_seconds) for row in rows]),
        Line("digest", [(row.digest or DASH)[:12] for row in rows]),
    ]
    return [line for line in lines if any(cell != DASH for cell in line.cells)]


def power_findings(runs: Sequence[PowerRun], rows: Sequence[PowerRow]) -> list[str]:
    """Who comes nearest to the optimum, and which tasks are no result."""
    ranked = sorted(((row.least_percent, row.run) for row in rows if row.least_percent is not None), reverse=True)
    said = []
    if len(ranked) > 1:
        (first, leader), (second, follower) = ranked[:2]
        said.append(
            f"Nearest to the optimum in its worst task: {leader} with {number(first)} %, "
            f"then {follower} with {number(second)} %."
        )
    return said + [sentence for run in runs for sentence in _warnings(run)]


def task_lines(runs: Sequence[PowerRun], *, labelled: bool) -> list[TaskLines]:
    """The tasks with labels, or those with a limit on mean power, in the order of their first run."""
    found: dict[str, list[tuple[int, Json]]] = {}
    for index, run in enumerate(runs):
        for entry in run.power.get("tasks") or ():
            if (entry.get("gap_mean") is not None) == labelled:
                found.setdefault(f"{entry['problem']}, N = {entry['n']}", []).append((index, entry))
    return [TaskLines(task, entries) for task, entries in found.items()]


def percent(part: float | None, whole: float | None) -> str:
    """part / whole in percent, two digits after the point; a dash where one is not there."""
    return DASH if part is None or not whole else f"{100 * part / whole:.2f}"


def _warnings(run: PowerRun) -> list[str]:
    locked = [str(event["task"]) for event in run.events if event.get("event") == "locked"]
    broken = list(dict.fromkeys(str(event["task"]) for event in run.events if event.get("event") == "violation"))
    said = []
    if locked:
        said.append(f"{run.label}: locked, with a rate below that of constant power: {listed(locked)}.")
    if broken:
        said.append(f"{run.label}: too far from the limit on mean power to be a result: {listed(broken)}.")
    return said


def _line(
    name: str, rows: Sequence[PowerRow], of: Callable[[PowerRow], float | None], best: Callable[..., float]
) -> Line:
    cells = [number(of(row)) for row in rows]
    known = [value for row in rows if (value := of(row)) is not None]
    if len(known) < 2 or len(set(cells)) == 1:
        return Line(name, cells)
    top = number(best(known))
    return Line(name, cells, frozenset(index for index, cell in enumerate(cells) if cell == top))


def _known(tasks: Sequence[Json], key: str) -> list[float]:
    return [float(task[key]) for task in tasks if task.get(key) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _of(part: int | None, whole: int) -> str:
    return DASH if part is None else f"{part} of {whole}"


def _whole(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"
