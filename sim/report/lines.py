"""Drawing on one set of axes: lines with their names beside them, bands over many users, dots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from sim.report.columns import Floats, Ints
from sim.report.style import GRID, INK, MUTED, Dash, Panel, spread
from sim.report.words import short, size

SMOOTH_FROM = 60
"""Rounds from which lines are drawn as a faint trace under its moving mean."""
_MARKED_EACH = 12
"""Points up to which each has its mark."""


@dataclass(frozen=True)
class Line:
    """x [N], y [N] (NaN leaves a gap) and how it looks. `rough`: noisy, so smoothed when long.

    marker: on a few of its points. moved: by how much of a step, so that those of several lines stand apart.
    """

    label: str
    colour: str
    x: Floats | Ints
    y: Floats
    dash: Dash = "-"
    width: float = 1.6
    rough: bool = True
    marker: str = ""
    moved: float = 0.0


def window(count: int) -> int:
    """Rounds in the moving mean of a line of `count` points; 1 leaves the line as it is."""
    return 1 if count < SMOOTH_FROM else 2 * (count // 40) + 1


def moving_mean(y: Floats, width: int) -> Floats:
    """Centred mean over `width` points, fewer at the ends; NaN is left out. y [N] -> [N]."""
    there = np.isfinite(y)
    kernel = np.ones(width)
    total = np.convolve(np.where(there, y, 0.0), kernel, mode="same")
    count = np.convolve(there.astype(np.float64), kernel, mode="same")
    mean: Floats = np.divide(total, count, out=np.full(len(y), np.nan), where=there)
    return mean


def line_panel(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str = "round",
    from_zero: bool = False,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> Panel:
    """Lines with direct labels. `marks`: (height, name) reference lines, drawn where they are in view."""

    def draw(axes: Axes) -> None:
        for line in lines:
            _plot(axes, line)
        axes.set_xlabel(x_label, loc="right", labelpad=2)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        _fit_x(axes, lines)
        _scale(axes, log=log, from_zero=from_zero, limits=limits)
        _mark(axes, marks)
        _label(axes, [line for line in lines if line.label])

    return Panel(title, draw, max((len(short(line.label)) for line in lines), default=0))


def _plot(axes: Axes, line: Line) -> None:
    width = window(len(line.y)) if line.rough else 1
    short_one = len(line.y) <= _MARKED_EACH
    step = 1 if short_one else len(line.y) // 6
    if width > 1:
        axes.plot(line.x, line.y, color=line.colour, linewidth=0.6, alpha=0.3)
    axes.plot(
        line.x,
        moving_mean(line.y, width),
        color=line.colour,
        linestyle=line.dash,
        linewidth=line.width,
        marker=line.marker or ("o" if short_one else ""),
        markersize=3.6 if line.marker else 3,
        markevery=(int(line.moved * step), step),
    )


def _fit_x(axes: Axes, lines: Sequence[Line]) -> None:
    """Lines end at the right edge, where their names are."""
    ends = [(float(line.x[0]), float(line.x[-1])) for line in lines if len(line.x)]
    first, last = min(start for start, _ in ends), max(stop for _, stop in ends)
    axes.set_xlim(first - 0.02 * (last - first) - (last == first), last + (last == first))


def _scale(axes: Axes, *, log: bool, from_zero: bool, limits: tuple[float, float] | None) -> None:
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        return
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if limits is not None:
        axes.set_ylim(*limits)
    if from_zero:
        axes.set_ylim(0, 1.06 * max(axes.dataLim.ymax, 0) or None)


def _mark(axes: Axes, marks: Sequence[tuple[float, str]]) -> None:
    low, high = axes.get_ylim()
    for height, name in marks:
        if low < height < high:
            axes.axhline(height, color=MUTED, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
            axes.annotate(name, (1, height), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                          ha="right", textcoords="offset points", fontsize=7, color=MUTED,
                          path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip


def _label(axes: Axes, lines: Sequence[Line]) -> None:
    """Each line's name where it ends, moved apart where ends meet, with a thin lead to the end."""
    ends = [(line, end) for line in lines if (end := _end(axes, line)) is not None]
    for across in dict.fromkeys(x for _, (x, _) in ends):
        here = [(line, height) for line, (x, height) in ends if x == across]
        places = spread([height for _, height in here], 0.082)
        for (line, height), place in zip(here, places, strict=True):
            _name(axes, line, (across, height), place)


def _name(axes: Axes, line: Line, end: tuple[float, float], place: float) -> None:
    x, height = end
    lead = Line2D((x + 0.005, x + 0.045), (height, place), color=line.colour, linewidth=0.6, transform=axes.transAxes)
    axes.add_artist(lead).set_clip_on(False)
    axes.text(x + 0.055, place, short(line.label), transform=axes.transAxes, color=line.colour, va="center")


def _end(axes: Axes, line: Line) -> tuple[float, float] | None:
    """Where the line's last point lies, as fractions of the axes' width and height."""
    y = moving_mean(line.y, window(len(line.y))) if line.rough else line.y
    seen = np.flatnonzero(np.isfinite(y) & ((y > 0) | (axes.get_yscale() != "log")))
    if len(seen) == 0:
        return None
    pixel = axes.transData.transform((float(line.x[seen[-1]]), float(y[seen[-1]])))
    x, height = np.clip(axes.transAxes.inverted().transform(pixel), 0, 1)
    return round(float(x), 2), float(height)


def band_panel(
    title: str,
    x: Floats | Ints,
    y: Floats,
    colour: str,
    named: Sequence[tuple[str, int]],
    *,
    limits: tuple[float, float] | None = None,
) -> Panel:
    """Many users in one picture. y [N, K]: all users, the middle 80 %, the median, and `named` users by index."""
    rows = np.isfinite(y).any(axis=1)
    x, y = x[rows], y[rows]
    low, tenth, middle, ninetieth, high = np.nanquantile(y, (0, 0.1, 0.5, 0.9, 1), axis=0 if y.ndim < 2 else 1)
    dashes: tuple[tuple[int, tuple[float, ...]], ...] = ((0, (5, 2)), (0, (1, 1.3)))
    lines = [Line("median", INK, x, middle, rough=False)] + [
        Line(name, colour, x, y[:, user], dash=dash, width=1.3)
        for (name, user), dash in zip(named, dashes, strict=False)
    ]
    inner = line_panel(title, lines, limits=limits)

    def draw(axes: Axes) -> None:
        axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
        axes.fill_between(x, tenth, ninetieth, color=colour, alpha=0.26, linewidth=0)
        inner.draw(axes)

    return Panel(title, draw, inner.right)


class Dots(NamedTuple):
    """Bytes by user [K], of one run."""

    label: str
    colour: str
    marker: str
    values: Ints


def dot_panel(title: str, users: Sequence[str], groups: Sequence[Dots]) -> Panel:
    """Bytes by user: one row per user, one dot per group."""

    def draw(axes: Axes) -> None:
        step = 0.56 / max(1, len(groups))
        for index, (_, colour, marker, values) in enumerate(groups):
            rows = np.arange(len(users)) + (index - (len(groups) - 1) / 2) * step
            axes.hlines(rows, 0, values, color=colour, linewidth=1.2, alpha=0.55)
            axes.plot(values, rows, marker, color=colour, markersize=4.5)
            if len(groups) * len(users) <= 8:
                for value, row in zip(values, rows, strict=True):
                    axes.annotate(size(int(value)), (value, row), xytext=(6, 0), va="center",
                                  textcoords="offset points", color=INK, fontsize=7.5)  # fmt: skip
        axes.set_yticks(range(len(users)), [short(user) for user in users], color=INK)
        axes.set_ylim(len(users) - 0.4, -0.6)
        axes.set_xlim(0, 1.28 * max([1, *(int(values.max()) for *_, values in groups)]))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(int(value))))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", color=GRID)

    return Panel(title, draw, left=max(len(short(user)) for user in users))
