"""What the runs of a sweep say: one row per run, and mean and spread over seeds per point of the grid."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from sim.effective import inline
from sim.sweep.grid import Axis, Point
from sim.sweep.plan import Planned, is_done

MEASURES = (
    "fairness_mean",
    "val_fairness_mean",
    "slot_fairness_mean",
    "regret_mean",
    "worst_utility",
    "jain",
    "sum_w_mean",
    "virtual_seconds",
    "wall_seconds",
    "slots_per_second",
)
"""Columns of the table, from summary.json; empty where a run has no such number."""
SHOWN = {
    "val_fairness_mean": "val. fairness",
    "fairness_mean": "fairness",
    "regret_mean": "regret",
    "worst_utility": "worst u",
    "jain": "Jain",
    "virtual_seconds": "virtual s",
}
"""On the terminal, where some run has the number."""


_DECIMALS, _SMALL = 4, 1e-3


class Row(NamedTuple):
    """One run. error: why it failed, and then no measure is known."""

    point: int
    seed: int
    measures: dict[str, float | None]
    digest: str | None
    error: str | None
    folder: str

    @property
    def status(self) -> str:
        """`done` or `failed`."""
        return "done" if self.error is None else "failed"


class Mean(NamedTuple):
    """Over the seeds for which the number is known. spread: standard deviation, None for one seed."""

    mean: float
    spread: float | None

    def __str__(self) -> str:
        """With the decimals that the spread leaves sure: to its first digit, or its second behind a 1; at most four.

        Small numbers, of which four would leave nothing, have four digits.
        """
        if self.spread is None:
            return f"{self.mean:.4g}"
        if self.spread < abs(self.mean) < _SMALL or abs(self.mean) < self.spread < _SMALL:
            return f"{self.mean:.4g} ± {self.spread:.2g}"
        first = f"{self.spread:.0e}"
        places = min(_DECIMALS, max(0, -int(first[2:]) + (first[0] == "1"))) if self.spread else _DECIMALS
        return f"{self.mean:.{places}f} ± {self.spread:.{places}f}"


class Table(NamedTuple):
    """A finished sweep."""

    axes: list[Axis]
    points: list[Point]
    rows: list[Row]

    def mean(self, point: int, measure: str) -> Mean | None:
        """None where no run of this point has the number."""
        known = [value for row in self.rows if row.point == point and (value := row.measures[measure]) is not None]
        return Mean(fmean(known), stdev(known) if len(known) > 1 else None) if known else None

    def has(self, measure: str) -> bool:
        """Whether some run has the number."""
        return any(row.measures[measure] is not None for row in self.rows)

    @property
    def failed(self) -> list[Row]:
        """The runs without an answer."""
        return [row for row in self.rows if row.error is not None]

    def by_key(self, point: int) -> dict[str, str]:
        """The point's values by their dotted keys."""
        return {axis.key: inline(value) for axis, value in zip(self.axes, self.points[point].values, strict=True)}


def read_table(
    axes: list[Axis], points: list[Point], runs: Sequence[Planned], errors: dict[str, str], root: Path
) -> Table:
    """The rows of these runs below `root`. errors: why a run failed, by its name."""
    return Table(axes, points, [_row(planned, errors.get(planned.run.name), root) for planned in runs])


def _row(planned: Planned, error: str | None, root: Path) -> Row:
    folder = root / planned.run.name
    if error is None and not is_done(planned, root):
        error = "its scenario is another one than the sweep began with; did the file change?"
    summary = {} if error else json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    measures = {name: summary.get(name) for name in MEASURES}
    return Row(planned.point, planned.scenario.seed, measures, summary.get("digest"), error, str(folder))


def write_csv(table: Table, path: Path) -> None:
    """One line per run; an empty cell stands for what is not known."""
    names = [*(axis.key for axis in table.axes), "seed", "status", *MEASURES, "digest", "error", "dir"]
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, names, lineterminator="\n")
        lines.writeheader()
        lines.writerows(_told(table, row) for row in table.rows)


def _told(table: Table, row: Row) -> dict[str, Any]:
    ends = {"digest": row.digest, "error": row.error, "dir": row.folder}
    return {**table.by_key(row.point), "seed": row.seed, "status": row.status, **row.measures, **ends}


def shown(table: Table) -> list[dict[str, Any]]:
    """A line per point for the terminal; keys by their last part where that tells them apart."""
    ends = [axis.key.rpartition(".")[2] for axis in table.axes]
    heads = [end if ends.count(end) == 1 else axis.key for end, axis in zip(ends, table.axes, strict=True)]
    return [_point(table, index, heads) for index in range(len(table.points))]


def _point(table: Table, index: int, heads: Sequence[str]) -> dict[str, Any]:
    done = sum(row.point == index and row.error is None for row in table.rows)
    means = {title: table.mean(index, name) for name, title in SHOWN.items() if table.has(name)}
    return {**dict(zip(heads, table.by_key(index).values(), strict=True)), "seeds": done, **means}


def as_dict(table: Table) -> dict[str, Any]:
    """For `--json`: every row, and every mean by point."""
    return {
        "runs": len(table.rows),
        "failed": len(table.failed),
        "points": [_means(table, index) for index in range(len(table.points))],
        "rows": [_told(table, row) for row in table.rows],
    }


def _means(table: Table, index: int) -> dict[str, Any]:
    means = {name: table.mean(index, name) for name in MEASURES}
    values = dict(zip((axis.key for axis in table.axes), table.points[index].values, strict=True))
    return {"over": values, **{name: mean and mean._asdict() for name, mean in means.items()}}
