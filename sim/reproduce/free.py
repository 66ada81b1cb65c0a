"""The parameter-free rule on Rainbow MNIST, beside rules whose step was set by hand, under three adversaries."""

from collections.abc import Mapping

import numpy as np

from sim.report.lines import Line, line_panel
from sim.report.style import Chart, Panel
from sim.reproduce.drawing import mean_line
from sim.reproduce.experiment import Experiment
from sim.reproduce.jobs import Job, Size
from sim.reproduce.rainbow import ADVERSARIES, NAMES, fairness, mean_fairness, rainbow, rainbow_free
from sim.reproduce.rows import MEASURED, MET, NOT_MET, OURS, Row, row
from sim.reproduce.runs import Floats, Runs

_HAND = ("owo", "halves", "ones")
_SHORT = 0.02
"""How far below the best hand-stepped rule the goal allows."""


def jobs(size: Size) -> list[Job]:
    """Every adversary, the parameter-free rule and those stepped by hand."""
    return [job for adversary in ADVERSARIES for found in _runs(size, adversary).values() for job in found]


def _runs(size: Size, adversary: str) -> dict[str, list[Job]]:
    by_hand = {NAMES[weights]: rainbow(size, "continue", weights, adversary=adversary) for weights in _HAND}
    return {"parameter-free": rainbow_free(size, adversary), **by_hand}


def rows(runs: Runs, size: Size) -> list[Row]:
    """The table of fairness, and the gains seed by seed."""
    return [one for adversary in ADVERSARIES for one in _of(runs, size, adversary)]


def _of(runs: Runs, size: Size, adversary: str) -> list[Row]:
    found = _runs(size, adversary)
    ours = {name: mean_fairness(runs, jobs) for name, jobs in found.items()}
    cells = [
        _row(adversary, f"validation fairness, {name}", "-", values, MEASURED, _sum_w(runs, found[name]))
        for name, values in ours.items()
    ]
    free = ours.pop("parameter-free")
    return [*cells, _paired(adversary, free - ours[NAMES["owo"]]), _beside_best(adversary, free, ours)]


def _paired(adversary: str, gain: Floats) -> Row:
    """gain [S]: over OWO-FMTL on the same seed."""
    verdict = MET if (gain >= 0).all() else NOT_MET
    seeds = "seed by seed: " + ", ".join(f"{one:+.3f}" for one in gain)
    return _row(adversary, "gain over OWO-FMTL", "goal: at least 0 on every seed, aim +0.02", gain, verdict, seeds)


def _beside_best(adversary: str, free: Floats, by_hand: Mapping[str, Floats]) -> Row:
    best = max(by_hand, key=lambda name: float(by_hand[name].mean()))
    verdict = MET if free.mean() >= (1 - _SHORT) * by_hand[best].mean() else NOT_MET
    metric = "fairness / that of the best rule stepped by hand"
    reported = f"goal: at least {1 - _SHORT:g} of the means"
    return _row(adversary, metric, reported, free / by_hand[best], verdict, f"the best by hand is {best}")


def _row(adversary: str, metric: str, reported: str, ours: Floats, verdict: str, why: str) -> Row:
    return row("Rule", f"Rainbow MNIST, {adversary}", metric, reported, ours, verdict, why, OURS)


def _sum_w(runs: Runs, jobs: list[Job]) -> str:
    return f"sum |w| {runs.summary(jobs, 'sum_w_mean').mean():.2f}"


def charts(runs: Runs, size: Size) -> list[Chart]:
    """Fairness by round, one panel per adversary."""
    panels = tuple(_panel(runs, size, adversary) for adversary in ADVERSARIES)
    caption = "Fairness of validation utilities of each round, mean over seeds; the outer rule by hand is continue."
    return [Chart("free", "Parameter-free beside hand-stepped rules", caption, panels)]


def _panel(runs: Runs, size: Size, adversary: str) -> Panel:
    found = _runs(size, adversary).items()
    lines: list[Line] = [mean_line(name, i, fairness(runs, jobs)) for i, (name, jobs) in enumerate(found)]
    low = min(float(np.quantile(line.y, 0.05)) for line in lines)
    high = max(float(line.y.max()) for line in lines)
    return line_panel(f"Adversary: {adversary}", lines, limits=(low, high + 0.1))


FREE = Experiment(
    "free",
    "Parameter-free rule: Rainbow MNIST",
    "Nothing is set by hand in the parameter-free rule; the others take SGD 0.1 under continue, on the same seeds and "
    "streams. Adversaries on user 2: block is Fig. 3's, every flips the last slot of each full block of 5, none leaves "
    "the labels alone. The forty convex cells stand in docs/decisions/0010.",
    ("Rule",),
    ("free",),
    3,
    jobs,
    rows,
    charts,
)
