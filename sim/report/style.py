"""One look for every picture: colours, type, one SVG per panel, one PNG per chart."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1e23", "#5d6570", "#dfe2e7"
RUN_COLOURS = ("#0067a5", "#c24d00", "#00805d", "#a8457f", "#8a6d00", "#3391bd", "#5b5b6b", "#7a2a1f")
RUN_COLOURS_DARK = ("#63b5fa", "#ff9d5c", "#46d1a6", "#ef94c9", "#e2c452", "#9adcff", "#bcbcc9", "#e39f91")
Dash = str | tuple[int, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 1.8, 1.2, 1.8)), (0, (3, 1.5, 3, 4)))
MARKERS, GLYPHS = "os^DvPX*", "●■▲◆▼✚✖★"
"""Shapes of runs in pictures, and as text. With five dashes, 40 runs differ in black and white, and with eight colours
64 where there are no dashes."""
WIDTH, HEIGHT = 4.5, 2.55
"""Inches of one panel; the page scales it."""
ROW_GAP, HEADING = 0.12, 0.36
"""Inches between the rows of a PNG, and over them."""

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    colour: f"--run{index}" for index, colour in enumerate(RUN_COLOURS)
}
_RC: dict[Any, Any] = {
    "svg.hashsalt": "equiran",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "xtick.major.width": 0.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Panel:
    """One set of axes. `right`, `left`: longest label beside the axes, in characters; 0 leaves the usual room."""

    title: str
    draw: Callable[[Axes], None]
    right: int = 0
    left: int = 0


@dataclass(frozen=True)
class Chart:
    """One figure of the page. `key` names its PNG; `caption` says in words what it shows."""

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


@contextmanager
def style() -> Iterator[None]:
    """matplotlib settings of the report, put back afterwards."""
    with mpl.rc_context(_RC):
        yield


def colour_place(index: int) -> int:
    """Place of the index-th run's colour: every eight runs the colours move on, as the shapes begin anew."""
    return (index + index // len(MARKERS)) % len(RUN_COLOURS)


def run_colour(index: int) -> str:
    """The colour of the index-th run, the same in every picture."""
    return RUN_COLOURS[colour_place(index)]


def run_dash(index: int) -> Dash:
    """The dashes of the index-th run; solid for the first."""
    return DASHES[index % len(DASHES)]


def run_marker(index: int) -> str:
    """The shape of the index-th run."""
    return MARKERS[index % len(MARKERS)]


def run_glyph(index: int) -> str:
    """The same shape as text."""
    return GLYPHS[index % len(GLYPHS)]


def svg(panel: Panel, prefix: str) -> str:
    """The panel as an inline `<svg>`: colours are the page's variables, ids start with `prefix`."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes(_box(panel))
    _draw(panel, axes)
    out = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _for_page(out.getvalue(), prefix, panel.title)


def png(chart: Chart, path: Path) -> None:
    """The chart's picture, 160 dots per inch."""
    picture(chart).savefig(path, dpi=160, metadata={"Software": None})


def picture(chart: Chart) -> Figure:
    """All panels of a chart in one picture on white, row by row."""
    columns = min(2 if len(chart.panels) < 7 else 3, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    width, height = WIDTH * columns, (HEIGHT + ROW_GAP) * rows + HEADING
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.12 / height, chart.title, va="top", fontsize=10.5, fontweight="bold")
    for index, panel in enumerate(chart.panels):
        left, bottom, wide, high = _box(panel)
        row, column = divmod(index, columns)
        floor = (HEIGHT + ROW_GAP) * (rows - 1 - row)
        place = ((column + left) * WIDTH / width, (floor + bottom * HEIGHT) / height)
        _draw(panel, figure.add_axes((*place, wide * WIDTH / width, high * HEIGHT / height)))
    return figure


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart by the least squares that leave neighbours `gap` apart, order kept, inside [0, 1].

    More than 1 / gap + 1 heights start at 0 and go beyond 1.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([heights[index] - rank * gap])
        while len(blocks) > 1 and _average(blocks[-2]) > _average(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    bases = [_average(block) for block in blocks for _ in block]
    room = max(0.0, 1.0 - gap * (len(heights) - 1))
    placed = [0.0] * len(heights)
    for rank, (index, base) in enumerate(zip(order, bases, strict=True)):
        placed[index] = min(max(base, 0.0), room) + rank * gap
    return placed


def _average(block: Sequence[float]) -> float:
    return sum(block) / len(block)


def _draw(panel: Panel, axes: Axes) -> None:
    axes.set_title(panel.title)
    panel.draw(axes)


def _box(panel: Panel) -> tuple[float, float, float, float]:
    """Left, bottom, width, height of the axes: the same in all panels with labels of the same length."""
    left = max(0.52, 0.1 + 0.072 * panel.left) / WIDTH
    right = (0.12 + (0.16 + 0.074 * panel.right if panel.right else 0.0)) / WIDTH
    return left, 0.42 / HEIGHT, 1 - left - right, 1 - 0.74 / HEIGHT


def _for_page(text: str, prefix: str, title: str) -> str:
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(f": {colour}", f": var({variable})")
    body = re.sub(r' (?:width|height)="[^"]*pt"', "", body, count=2)
    body = body.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return re.sub(r">\s+<", ">\n<", body)
