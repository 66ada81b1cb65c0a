"""A report on disk: one self-contained HTML file and the PNGs beside it, for runs of one kind."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sim.report import page as slots_page
from sim.report import power_page as training_page
from sim.report.exports import Rows, write
from sim.report.files import UnreadableRun
from sim.report.folders import run_folders
from sim.report.page import Page
from sim.report.power_page import PowerPage
from sim.report.power_tables import PowerRow
from sim.report.read import read_runs
from sim.report.records import is_training
from sim.report.style import png, style
from sim.report.tables import Row, row


@dataclass(frozen=True)
class ReportPaths:
    """What `build` wrote, the summary row of each run on the page, and what was compared."""

    html: Path
    pngs: tuple[Path, ...]
    table: list[Row] | list[PowerRow]
    comparison: Rows
    exports: tuple[Path, ...]


def build(dirs: Sequence[Path], export: Path | None = None, out: Path | None = None) -> ReportPaths:
    """Write report.html and one PNG per chart into `out`, or the first of `dirs`, from the records alone.

    Runs compared with a run (its sub-folders) are drawn beside it, and a folder of runs stands for them. export:
    where the tables go as CSV and Parquet. Raises UnreadableRun, one line, where a folder is not a run, a file of it
    is damaged or runs are not of one kind, and ValueError without any folder.
    """
    training = _of_training(run_folders(dirs))
    made: Page | PowerPage = (training_page if training else slots_page).compose(dirs, out)
    folder = out or Path(dirs[0])
    folder.mkdir(parents=True, exist_ok=True)
    html, pngs = folder / "report.html", tuple(folder / f"{chart.key}.png" for chart in made.charts)
    html.write_text(made.html, encoding="utf-8")
    with style():
        for chart, path in zip(made.charts, pngs, strict=True):
            png(chart, path)
    exported = () if export is None else tuple(write(made.tables(), export))
    return ReportPaths(html, pngs, made.table, made.comparison, exported)


def table(dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """The summary rows as plain dictionaries (keys: the fields of `Row` or `PowerRow`). Raises UnreadableRun."""
    folders = run_folders(dirs)
    rows: Sequence[Row | PowerRow] = (
        training_page.rows(folders) if _of_training(folders) else [row(run) for run in read_runs(folders)]
    )
    return [asdict(one) for one in rows]


def _of_training(dirs: Sequence[Path]) -> bool:
    """Whether they hold power trainers. Raises UnreadableRun where only some of them do."""
    if not dirs:
        raise ValueError("report needs at least one run directory")
    training = [Path(folder) for folder in dirs if is_training(Path(folder))]
    slots = [Path(folder) for folder in dirs if Path(folder) not in training]
    if training and slots:
        raise UnreadableRun(
            f"{slots[0]} is a run with slots and {training[0]} one of train-power; make a report of each kind"
        )
    return bool(training)
