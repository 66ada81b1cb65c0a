"""One claim of a paper beside what we measure: a row of the table, its verdict, and the table's file."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
MEASURED = "measured"
"""Neither the paper nor the prototype says a number."""
NO_ANSWER, QUICK = "no answer", "quick"
MET, NOT_MET = "met", "not met"
"""For goals of our own."""


@dataclass(frozen=True)
class Row:
    """ours: mean over seeds; spread: standard deviation over seeds, None for one seed. Units are in `metric`."""

    paper: str
    figure: str
    scenario: str
    metric: str
    reported: str
    ours: float | None
    spread: float | None
    seeds: int
    verdict: str
    why: str


OWO_FMTL, ROUTED_MTL, OURS = "OWO-FMTL", "routed MTL", "ours"
"""The papers, and what is in neither."""


def row(
    figure: str,
    scenario: str,
    metric: str,
    reported: str,
    ours: ArrayLike,
    verdict: str,
    why: str,
    paper: str = OWO_FMTL,
) -> Row:
    """A row; ours [S]: one number per seed."""
    values = np.asarray(ours, np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    known = [None if np.isnan(value) else float(f"{value:.4g}") for value in (values.mean(), spread)]
    return Row(paper, figure, scenario, metric, reported, known[0], known[1], len(values), verdict, why)


def near(ours: float, target: float, tolerance: float) -> str:
    """Reproduced within the tolerance, partly within twice the tolerance."""
    return _graded(abs(ours - target), tolerance, 2 * tolerance)


def at_most(ours: float, limit: float, slack: float) -> str:
    """Reproduced up to the limit, partly up to `slack` above it."""
    return _graded(ours, limit, limit + slack)


def between(ours: float, low: float, high: float) -> str:
    """Reproduced inside [low, high], low > 0; partly between half of low and twice high."""
    if low <= ours <= high:
        return REPRODUCED
    return PARTLY if low / 2 <= ours <= 2 * high else NOT_REPRODUCED


def always(share: float) -> str:
    """Reproduced where something holds in every case, partly where in nine of ten."""
    return _graded(1 - share, 0.0, 0.1)


def _graded(distance: float, good: float, fair: float) -> str:
    rounding = 1e-12
    if distance <= good + rounding:
        return REPRODUCED
    return PARTLY if distance <= fair + rounding else NOT_REPRODUCED


def as_quick(rows: Sequence[Row]) -> list[Row]:
    """Numbers of small runs, which say nothing about the paper's."""
    return [replace(one, reported="-", verdict=QUICK, why="") for one in rows]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The table's file; an empty cell stands for what is not known."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(one) for one in rows)


def read_csv(path: Path) -> list[Row]:
    """The rows of a table's file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_parsed(line) for line in csv.DictReader(file)]


def _parsed(line: dict[str, str]) -> Row:
    ours, spread = (float(line[name]) if line[name] else None for name in ("ours", "spread"))
    texts = {name: line[name] for name in ("paper", "figure", "scenario", "metric", "reported", "verdict", "why")}
    return Row(ours=ours, spread=spread, seeds=int(line["seeds"]), **texts)
