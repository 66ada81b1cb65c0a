"""Pictures of the second paper: how training converges (Figs. 5 to 8), and which masks its tasks share."""

import numpy as np

from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from sim.report.lines import Line, line_panel
from sim.report.matrix import matrix_panel
from sim.report.style import Chart, Panel, run_colour
from sim.reproduce.jobs import Size
from sim.reproduce.power_schemes import SCHEMES, SHOWN_USERS, scheme
from sim.reproduce.runs import Runs

DRAWN = ("single", "routed", "naive", "zero_padding", "best")


def convergence(runs: Runs, size: Size) -> Chart:
    """Figs. 6 to 8: rate and violation of P4 in training."""
    panels = [
        line_panel(f"{title}, N = {users}", _lines(runs, size, P4Capacity.name, users, column), x_label="step",
                   limits=limits, marks=marks)
        for users in SHOWN_USERS
        for title, column, limits, marks in (
            ("Rate, bit/s/Hz", "rate", None, _optimum(runs, size, users)),
            ("Violation, W", "violation", (-0.1, 0.1), [(0.0, "limit")]),
        )
    ]  # fmt: skip
    caption = "Mean over seeds of running means over 100 steps; the proposed scheme's masks harden half-way."
    return Chart("table3_convergence", "Figs. 6 to 8: rate and violation in training", caption, tuple(panels))


def errors(runs: Runs, size: Size) -> Chart:
    """Fig. 5: P3's loss in training."""
    panels = [
        line_panel(f"Squared error of P / P_tot, N = {users}", _lines(runs, size, P3Delay.name, users, "task_loss"),
                   x_label="step", log=True)
        for users in SHOWN_USERS
    ]  # fmt: skip
    caption = "Mean over seeds of running means over 100 steps, summed over users."
    return Chart("table2_convergence", "Fig. 5: the loss of P3 in training", caption, tuple(panels))


def overlaps(runs: Runs, size: Size) -> Chart:
    """Jaccard index of every pair of tasks' hard masks, mean over seeds."""
    panels = [_overlap(runs, size, name) for name in ("routed", "best")]
    caption = "Jaccard index of two tasks' masks, mean over seeds: 1 where they use the same weights."
    return Chart("table3_overlap", "What the tasks' masks share", caption, tuple(panels))


def _overlap(runs: Runs, size: Size, name: str) -> Panel:
    jobs = scheme(name, size)
    values = np.mean([runs.overlap(job) for job in jobs], axis=0)
    labels = [f"{problem} {users}" for problem, users in runs.power_tasks(jobs[0])]
    return matrix_panel(f"Overlap of masks, {SCHEMES[name].text}", labels, values)


def _lines(runs: Runs, size: Size, problem: str, users: int, column: str) -> list[Line]:
    made = []
    for index, name in enumerate(DRAWN):
        found = [runs.training(job, f"{problem}/{users}", column) for job in scheme(name, size)]
        steps, values = found[0][0], np.mean([y for _, y in found], axis=0)
        made.append(Line(SCHEMES[name].text, run_colour(index), steps, values, rough=False))
    return made


def _optimum(runs: Runs, size: Size, users: int) -> list[tuple[float, str]]:
    return [(float(runs.score(scheme("single", size), "P4", users, "optimum").mean()), "optimum")]
