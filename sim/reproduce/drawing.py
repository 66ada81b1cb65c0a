"""Panels that only reproductions need: curves of seeds on logarithmic axes, and ranked dots."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from sim.report.lines import Line
from sim.report.style import GRID, INK, MUTED, Panel, run_colour
from sim.report.words import number, short

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """x [N] and y [S, N]: one curve per seed. dash: as matplotlib has it."""

    label: str
    colour: str
    x: Floats
    y: Floats
    dash: str = "-"


def log_log_panel(title: str, curves: Sequence[Curve], x_label: str, *, guide: float | None = None) -> Panel:
    """Mean over seeds with the seeds' range. What is not above zero is left out. guide: the slope of a dotted line."""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for curve in curves:
            _curve(axes, curve)
        if guide is not None:
            _guide(axes, curves[0], guide)
        axes.xaxis.set_major_locator(FixedLocator([float(x) for x in curves[0].x]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(x_label, loc="right", labelpad=2)
        axes.legend(loc="lower left", frameon=False, fontsize=7.5, labelcolor="linecolor")

    return Panel(title, draw)


def _curve(axes: Axes, curve: Curve) -> None:
    mean = curve.y.mean(axis=0)
    here = mean > 0
    x, seeds = curve.x[here], curve.y[:, here]
    low, high = seeds.min(axis=0), seeds.max(axis=0)
    axes.fill_between(x, np.maximum(low, 1e-12), high, color=curve.colour, alpha=0.15, linewidth=0, where=low > 0)
    axes.plot(x, mean[here], color=curve.colour, linestyle=curve.dash, marker="o", ms=3, label=curve.label)


def _guide(axes: Axes, curve: Curve, slope: float) -> None:
    top = 1.6 * float(curve.y.mean(axis=0)[0])
    line = top * (curve.x / curve.x[0]) ** slope
    axes.plot(curve.x, line, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(f"slope {slope:g}", (curve.x[-1], line[-1]), xytext=(0, 4), ha="right",
                  textcoords="offset points", fontsize=7, color=MUTED)  # fmt: skip


def mean_line(label: str, index: int, y: Floats, *, rough: bool = True) -> Line:
    """The mean over seeds of y [S, T] as a line of a report."""
    return Line(label, run_colour(index), np.arange(y.shape[1]), y.mean(axis=0), rough=rough)


def median_line(label: str, index: int, y: Floats, *, rough: bool = True) -> Line:
    """The median over seeds of y [S, T], which one seed that diverges for a round does not move."""
    return Line(label, run_colour(index), np.arange(y.shape[1]), np.median(y, axis=0), rough=rough)


class Dot(NamedTuple):
    """A name and its values by seed [S]; `own` stands out."""

    label: str
    values: Floats
    own: bool = False


def dots_panel(title: str, dots: Sequence[Dot], *, higher_is_better: bool) -> Panel:
    """One row per name, best on top: mean and range over seeds; without an answer at the bottom."""
    known = [dot for dot in dots if np.isfinite(dot.values).all()]
    ranked = sorted(known, key=lambda dot: float(dot.values.mean()), reverse=higher_is_better)
    ranked += [dot for dot in dots if not np.isfinite(dot.values).all()]

    def draw(axes: Axes) -> None:
        shown = _window([float(dot.values.mean()) for dot in known])
        for place, dot in enumerate(ranked):
            _dot(axes, place, dot, shown)
        axes.set_xlim(*shown)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_yticks(range(len(ranked)), [short(dot.label) for dot in ranked], color=INK, fontsize=6)
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color=GRID)

    return Panel(title, draw, left=max(len(short(dot.label)) for dot in dots))


def _window(means: Sequence[float]) -> tuple[float, float]:
    """The middle of the values: what lies more than four quartile ranges outside is drawn at the edge."""
    low, first, third, high = np.quantile(means, (0, 0.25, 0.75, 1))
    reach = 4 * (third - first)
    low, high = max(low, first - reach), min(high, third + reach)
    room = 0.08 * (high - low) or 0.05 * max(abs(high), 1e-6)
    return float(low - room), float(high + 2 * room)


def _dot(axes: Axes, place: int, dot: Dot, shown: tuple[float, float]) -> None:
    mean, colour = float(dot.values.mean()), run_colour(1 if dot.own else 0)
    if np.isnan(mean):
        axes.text(shown[0], place, " no answer", va="center", fontsize=6, color=MUTED)
        return
    at = float(np.clip(mean, *shown))
    axes.hlines(place, dot.values.min(), dot.values.max(), color=colour, linewidth=1.2, alpha=0.5)
    marker = "o" if at == mean else "<" if mean < at else ">"
    axes.plot(at, place, marker, color=colour, markersize=3.5, clip_on=False)
    aside, side = (-6, "right") if mean > at else (5, "left")
    axes.annotate(number(mean), (at, place), xytext=(aside, 0), va="center", ha=side, textcoords="offset points",
                  color=colour, fontsize=5.5)  # fmt: skip
