"""Fig. 4: validation losses of OWO-FMTL and of learning each round from scratch (SRL); LAST against AVG."""

from math import log

import numpy as np

from sim.report.lines import line_panel
from sim.report.style import Chart
from sim.reproduce.drawing import mean_line
from sim.reproduce.experiment import Experiment
from sim.reproduce.jobs import Job, Size
from sim.reproduce.rainbow import OUTER, USERS, losses, mean_fairness, rainbow
from sim.reproduce.rows import MEASURED, Row, at_most, near, row
from sim.reproduce.runs import Floats, Runs

_GUESS = log(10)
_HEADS = ("fresh", "carried")
_END = 20
"""Rounds that `final` means."""


def jobs(size: Size) -> list[Job]:
    """From scratch, and both outer rules with both targets."""
    scratch = [job for heads in _HEADS for job in _scratch(size, heads)]
    both = [job for outer in OUTER for target in ("last", "average") for job in rainbow(size, outer, target=target)]
    return [*scratch, *both]


def _scratch(size: Size, heads: str) -> list[Job]:
    return rainbow(size, "scratch", heads=heads)


def rows(runs: Runs, size: Size) -> list[Row]:
    """From scratch near a random guess, the trend of OWO-FMTL, LAST against AVG."""
    trends = [one for outer in OUTER for one in _trend(runs, size, outer)]
    scratch = [one for heads in _HEADS for one in _scratch_rows(runs, size, heads)]
    return [*scratch, *trends, *(_average(runs, size, outer) for outer in OUTER)]


def _scratch_rows(runs: Runs, size: Size, heads: str) -> list[Row]:
    ours = losses(runs, _scratch(size, heads)).mean(axis=1)
    said = f"random guess: {_GUESS:.2f}"
    why = {"fresh": "within 0.05; a prototype has 2.28 / 2.30", "carried": "heads still learn, on x_1's features"}
    return [
        row("Fig. 4", f"Rainbow MNIST, SRL, heads {heads}", f"validation loss, {user} user", said, ours[:, k],
            near(float(ours[:, k].mean()), _GUESS, 0.05), why[heads])
        for k, user in enumerate(USERS)
    ]  # fmt: skip


def _trend(runs: Runs, size: Size, outer: str) -> list[Row]:
    found = losses(runs, rainbow(size, outer))
    quarter = max(1, found.shape[1] // 4)
    fall = found[:, -quarter:].mean(axis=1) - found[:, :quarter].mean(axis=1)
    final = found[:, -_END:].mean(axis=1)
    scenario = f"Rainbow MNIST, {outer}"
    made = []
    for k, user in enumerate(USERS):
        metric = f"validation loss, last quarter less first, {user} user"
        verdict = at_most(float(fall[:, k].mean()), -0.05, 0.05)
        made.append(row("Fig. 4", scenario, metric, "downward trend", fall[:, k], verdict, "at most -0.05"))
        metric = f"validation loss, last {_END} rounds, {user} user"
        made.append(row("Fig. 4", scenario, metric, "no number printed", final[:, k], MEASURED, ""))
    return made


def _average(runs: Runs, size: Size, outer: str) -> Row:
    last, average = (mean_fairness(runs, rainbow(size, outer, target=target)) for target in ("last", "average"))
    lead = last - average
    metric = "validation fairness, LAST less AVG"
    why = f"LAST {last.mean():.3f}, AVG {average.mean():.3f}"
    verdict = at_most(-float(lead.mean()), 0.0, 0.01)
    return row("Figs. 3, 4", f"Rainbow MNIST, {outer}", metric, "LAST is best: above 0", lead, verdict, why)


def charts(runs: Runs, size: Size) -> list[Chart]:
    """Validation losses by round, one panel per user."""
    found = {
        "SRL": losses(runs, _scratch(size, "fresh")),
        "SRL, heads carried": losses(runs, _scratch(size, "carried")),
        "running mean": losses(runs, rainbow(size, "running_mean")),
        "running mean, AVG": losses(runs, rainbow(size, "running_mean", target="average")),
        "continue": losses(runs, rainbow(size, "continue")),
    }
    panels = [
        line_panel(f"Validation loss, {user} user", [mean_line(name, i, y[:, :, k]) for i, (name, y) in
                   enumerate(found.items())], limits=_limits(found), marks=[(_GUESS, "ln 10")])
        for k, user in enumerate(USERS)
    ]  # fmt: skip
    caption = "On unseen digits of the round, after its last slot; mean over seeds; rare peaks are cut off."
    return [Chart("fig4", "Fig. 4: test losses", caption, tuple(panels))]


def _limits(found: dict[str, Floats]) -> tuple[float, float]:
    """All but the highest half percent of the seeds' mean losses."""
    means = np.concatenate([y.mean(axis=0).ravel() for y in found.values()])
    low, high = np.quantile(means, (0, 0.995))
    room = 0.05 * float(high - low)
    return float(low) - room, float(high) + room


FIG4 = Experiment(
    "fig4",
    "Fig. 4: Rainbow MNIST, learning across rounds",
    "The runs of Fig. 3, and OWO-FMTL started from the same x_1 in every round (SRL, with the users' heads started "
    "again, too, or carried), or carrying the round's average model (AVG) instead of its last one (LAST).",
    ("Fig. 4", "Figs. 3, 4"),
    ("fig4",),
    3,
    jobs,
    rows,
    charts,
)
