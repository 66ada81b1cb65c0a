"""The figures of a comparison: means over seeds with their intervals, and differences from the first group."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sim.report.comparison import BASE, MEASURES, Compared, Measure
from sim.report.estimates import Estimate
from sim.report.groups import Group
from sim.report.style import GRID, INK, MUTED, Chart, Panel, run_colour, run_marker
from sim.report.words import short

MOST_GROUPS = 16
"""Rows of a panel that can still be read."""
_CROWDED = 8


class Interval(NamedTuple):
    """One row of a panel: a mean with its interval, and the single numbers behind it."""

    label: str
    place: int
    estimate: Estimate
    values: tuple[float, ...]


def interval_charts(groups: Sequence[Group], lines: Sequence[Compared]) -> list[Chart]:
    """Nothing where no group has an interval; the first 16 groups otherwise."""
    if all(line.mean.low is None for line in lines):
        return []
    seen = [line for line in lines if line.group < MOST_GROUPS]
    left_out = "" if len(groups) <= MOST_GROUPS else f" The first {MOST_GROUPS} of {len(groups)} groups."
    made = [_means(groups, seen, left_out), _differences(groups, seen, left_out)]
    return [chart for chart in made if chart.panels]


def _means(groups: Sequence[Group], lines: Sequence[Compared], left_out: str) -> Chart:
    caption = "Means over seeds, with 95 % intervals by Student's t; small marks are single seeds."
    panels = _panels(
        lines, lambda line: Interval(groups[line.group].label, line.group, line.mean, tuple(line.values.values()))
    )
    return Chart("means", "Means over seeds", caption + left_out, tuple(panels))


def _differences(groups: Sequence[Group], lines: Sequence[Compared], left_out: str) -> Chart:
    base = next((groups[line.group].label for line in lines if line.verdict == BASE), "")
    caption = (
        f"Less {base}, seed by seed: mean differences over common seeds, with 95 % intervals. One that leaves zero out "
        "is beyond what seeds alone explain; of twenty such, one is expected to by chance."
    )
    there = [line for line in lines if line.difference is not None and line.difference.low is not None]
    panels = _panels(there, lambda line: _difference(groups, line, lines), zero=True)
    return Chart("differences", f"Differences from {base}", caption + left_out, tuple(panels))


def _difference(groups: Sequence[Group], line: Compared, lines: Sequence[Compared]) -> Interval:
    assert line.difference is not None
    base = next(one.values for one in lines if one.measure is line.measure and one.verdict == BASE)
    each = tuple(value - base[seed] for seed, value in line.values.items() if seed in base)
    return Interval(groups[line.group].label, line.group, line.difference, each)


def _panels(lines: Sequence[Compared], row: Callable[[Compared], Interval], *, zero: bool = False) -> list[Panel]:
    made = []
    for measure in (one for one in MEASURES if one.drawn):
        rows = [row(line) for line in lines if line.measure is measure]
        if len({value for each in rows for value in each.values}) > 1:
            made.append(interval_panel(measure, rows, zero=zero))
    return made


def interval_panel(measure: Measure, rows: Sequence[Interval], *, zero: bool = False) -> Panel:
    """One row per group, the first on top."""

    def draw(axes: Axes) -> None:
        size = 7.5 if len(rows) <= _CROWDED else 5.5
        for height, each in enumerate(rows):
            _draw(axes, height, each)
        if zero:
            axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [short(each.label) for each in rows], color=INK, fontsize=size)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color=GRID)

    title = measure.name[0].upper() + measure.name[1:]
    return Panel(title, draw, left=max(len(short(each.label)) for each in rows))


def _draw(axes: Axes, height: int, row: Interval) -> None:
    colour, mean = run_colour(row.place), row.estimate
    if mean.low is not None and mean.high is not None:
        axes.errorbar(
            mean.mean, height, xerr=[[mean.mean - mean.low], [mean.high - mean.mean]], color=colour, linewidth=1.3,
            capsize=3,
        )  # fmt: skip
        axes.plot(row.values, [height + 0.22] * len(row.values), "|", color=colour, markersize=4, alpha=0.7)
    axes.plot(mean.mean, height, run_marker(row.place), color=colour, markersize=4.5)
