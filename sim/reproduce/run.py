"""From the name of an experiment to its table, its pictures and its page."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sim.report.style import png, style
from sim.reproduce.compressed import COMPRESSION
from sim.reproduce.experiment import Experiment
from sim.reproduce.fig2 import FIG2
from sim.reproduce.fig3 import FIG3
from sim.reproduce.fig4 import FIG4
from sim.reproduce.free import FREE
from sim.reproduce.jobs import Size
from sim.reproduce.page import results_page
from sim.reproduce.pool import run_all
from sim.reproduce.radio import RADIO
from sim.reproduce.rivals import RIVALS
from sim.reproduce.rows import Row, as_quick, write_csv
from sim.reproduce.runs import Runs
from sim.reproduce.table2 import TABLE2
from sim.reproduce.table3 import TABLE3

EXPERIMENTS = {
    experiment.name: experiment for experiment in (FIG2, FIG3, FIG4, FREE, RIVALS, RADIO, COMPRESSION, TABLE2, TABLE3)
}
QUICK_SEEDS = 2


class Made(NamedTuple):
    """What a reproduction leaves: rows, and the paths of its files."""

    rows: list[Row]
    csv: Path
    page: Path
    pictures: list[Path]

    def told(self) -> dict[str, Any]:
        """For `--json`."""
        files = {"table": str(self.csv), "page": str(self.page), "pictures": [str(path) for path in self.pictures]}
        return {**files, "rows": [asdict(row) for row in self.rows]}


def reproduce(
    experiments: Sequence[Experiment],
    seeds: int | None,
    *,
    quick: bool,
    out: Path,
    note: Callable[[str], None],
    stop: Callable[[], bool],
) -> Made:
    """Run what is missing below `out`, then write table.csv, results.md and images/ there. Raises RunError, Stopped.

    seeds: None for each experiment's own number.
    """
    sizes = {one.name: Size(seeds or (QUICK_SEEDS if quick else one.seeds), quick) for one in experiments}
    run_all([job for one in experiments for job in one.jobs(sizes[one.name])], out / "runs", note, stop)
    runs = Runs(out / "runs")
    rows = [row for one in experiments for row in one.rows(runs, sizes[one.name])]
    rows = as_quick(rows) if quick else rows
    pictures = [path for one in experiments for path in _draw(one, runs, sizes[one.name], out / "images")]
    made = Made(rows, out / "table.csv", out / "results.md", pictures)
    write_csv(rows, made.csv)
    made.page.write_text(results_page(rows, experiments), encoding="utf-8")
    return made


def _draw(experiment: Experiment, runs: Runs, size: Size, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with style():
        for chart in experiment.charts(runs, size):
            made.append(folder / f"{chart.key}.png")
            png(chart, made[-1])
    return made
