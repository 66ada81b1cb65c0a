"""A matrix of shares as shaded squares."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from sim.report.columns import Floats
from sim.report.style import INK, Panel


def matrix_panel(title: str, labels: Sequence[str], values: Floats) -> Panel:
    """Shares [K, K] between 0 and 1 as shaded squares, named on both sides."""

    def draw(axes: Axes) -> None:
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        places = range(len(labels))
        axes.set_yticks(places, labels, fontsize=5.5, color=INK)
        axes.set_xticks(places, labels, fontsize=5.5, color=INK, rotation=90)
        axes.grid(visible=False)
        for at, share in np.ndenumerate(values):
            colour = "white" if share > 0.6 else INK
            axes.text(at[1], at[0], f"{100 * share:.0f}", ha="center", va="center", fontsize=4.5, color=colour)

    return Panel(title, draw, left=max(map(len, labels)))
