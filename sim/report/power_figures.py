"""The charts of power trainers: how rates, violations and losses come along, and which masks tasks share."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from sim.report.lines import Line, line_panel
from sim.report.matrix import matrix_panel
from sim.report.power_read import PowerRun
from sim.report.style import MUTED, Chart, Panel, run_colour, run_dash, run_marker

Mark = tuple[float, str]
Numbered = Sequence[tuple[int, PowerRun]]

MOST_LINES, MOST_PANELS = 8, 4
"""Tasks in one panel of a single run; panels, one per task, of several runs."""
MOST_OVERLAPS = 40
"""Tasks up to which the squares of a matrix can be told apart."""
_KINDS = (
    ("rate", "rates", "Rates", "Rate, bits", "The rate of each task without labels, mean of the last 100 steps."),
    ("violation", "violations", "Violations", "Mean power less its limit, W",
     "By how much the mean power of a task's users is over its limit, mean of the last 100 steps. The second half of "
     "training sets the scale: what happens at first may leave the picture."),
    ("task_loss", "label_losses", "Distance to the labels", "Squared error of P / P_tot",
     "The squared distance to the exact optimum, summed over users, mean of the last 100 steps; logarithmic."),
)  # fmt: skip


def power_charts(runs: Sequence[PowerRun]) -> tuple[list[Chart], list[str]]:
    """The charts these runs can fill, and one line for each that they cannot."""
    numbered = [(index, run) for index, run in enumerate(runs) if len(run.training.steps)]
    found = [(title.lower(), _progress(numbered, *kind)) for kind in _KINDS for title in (kind[2],)]
    found += [("the loss", _loss(numbered)), ("the overlap of masks", _overlaps(runs))]
    return [chart for _, chart in found if chart], [title for title, chart in found if chart is None]


def _progress(runs: Numbered, column: str, key: str, title: str, axis: str, caption: str) -> Chart | None:
    drawn = _of_one_run(runs[0][1], column, axis) if len(runs) == 1 else _side_by_side(runs, column, axis)
    panels = [*drawn]
    if not panels:
        return None
    return Chart(key, title, caption + _hardening(runs), tuple(panels))


def _of_one_run(run: PowerRun, column: str, axis: str) -> Iterator[Panel]:
    """A panel per problem, a line per number of users."""
    for problem, tasks in _problems(run, column).items():
        lines = [_line(f"N = {task.rpartition('/')[2]}", index, run, column, task) for index, task in enumerate(tasks)]
        panel = _panel(f"{axis}: {problem}", lines, column, [])
        yield _with_hardening(panel, [run])


def _side_by_side(runs: Numbered, column: str, axis: str) -> Iterator[Panel]:
    """A panel per task, a line per run."""
    tasks = dict.fromkeys(task for _, run in runs for found in _problems(run, column).values() for task in found)
    for task in _spread([*tasks], MOST_PANELS):
        lines = [
            replace(_line(run.label, index, run, column, task), dash=run_dash(index), marker=run_marker(index))
            for index, run in runs
            if run.training.of(column, task) is not None
        ]
        panel = _panel(f"{axis}: {task}", lines, column, _optimum(runs, task) if column == "rate" else [])
        yield _with_hardening(panel, [run for _, run in runs])


def _panel(title: str, lines: Sequence[Line], column: str, marks: Sequence[Mark]) -> Panel:
    if column != "violation":
        return line_panel(title, lines, x_label="step", log=column == "task_loss", marks=marks)
    return line_panel(title, lines, x_label="step", limits=_around_zero(lines), marks=[(0.0, "limit")])


def _loss(runs: Numbered) -> Chart | None:
    if not runs:
        return None
    lines = [
        Line(run.label if len(runs) > 1 else "", run_colour(index), run.training.steps, run.training.loss,
             dash=run_dash(index), rough=True)
        for index, run in runs
    ]  # fmt: skip
    caption = "The loss of single steps, over all tasks and with the multipliers' part; faint, under its moving mean."
    panel = _with_hardening(line_panel("Loss", lines, x_label="step"), [run for _, run in runs])
    return Chart("loss", "Loss", caption + _hardening(runs), (panel,))


def _overlaps(runs: Sequence[PowerRun]) -> Chart | None:
    panels = []
    for run in runs:
        found = run.power.get("mask_overlap")
        if found and len(found) <= MOST_OVERLAPS:
            labels = [f"{task['problem']} {task['n']}" for task in run.power["tasks"]]
            title = run.label if len(runs) > 1 else "Overlap of masks, %"
            panels.append(matrix_panel(title, labels, np.array(found)))
    if not panels:
        return None
    caption = "Jaccard index of two tasks' hard masks in percent: 100 where they use the same weights."
    return Chart("overlap", "What the tasks' masks share", caption, tuple(panels))


def _problems(run: PowerRun, column: str) -> dict[str, list[str]]:
    """Tasks with numbers in this column, by problem; of many, some spread over all."""
    found: dict[str, list[str]] = {}
    for task in run.training.tasks:
        if run.training.of(column, task) is not None:
            found.setdefault(task.rpartition("/")[0], []).append(task)
    return {problem: _spread(tasks, MOST_LINES) for problem, tasks in found.items()}


def _spread(tasks: list[str], most: int) -> list[str]:
    if len(tasks) <= most:
        return tasks
    return [tasks[round(place)] for place in np.linspace(0, len(tasks) - 1, most)]


def _line(label: str, index: int, run: PowerRun, column: str, task: str) -> Line:
    values = run.training.of(column, task)
    assert values is not None
    return Line(label, run_colour(index), run.training.steps, values, rough=False)


def _around_zero(lines: Sequence[Line]) -> tuple[float, float]:
    """The range of the second half of training, the limit in view: what happens at first would hide it."""
    late = np.concatenate([np.abs(line.y[len(line.y) // 2 :]) for line in lines])
    reach = 1.3 * float(np.nanmax(late)) if np.isfinite(late).any() else 0.0
    return -max(reach, 1e-3), max(reach, 1e-3)


def _optimum(runs: Numbered, task: str) -> list[Mark]:
    """Where all runs know the same one."""
    name, _, users = task.rpartition("/")
    known = {
        entry["optimum"]
        for _, run in runs
        for entry in run.power.get("tasks") or ()
        if entry["n"] == int(users) and entry.get("optimum") and name.upper().startswith(entry["problem"].upper())
    }
    return [(float(np.mean([*known])), "optimum")] if known else []


def _with_hardening(panel: Panel, runs: Sequence[PowerRun]) -> Panel:
    """A thin line where the masks become hard."""
    steps = {run.hardened for run in runs if run.hardened is not None}

    def draw(axes: Axes) -> None:
        panel.draw(axes)
        for step in steps:
            axes.axvline(step, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)

    return replace(panel, draw=draw)


def _hardening(runs: Numbered) -> str:
    return " Dotted, upright: the masks become hard." if any(run.hardened for _, run in runs) else ""
