"""The tables of a report as files for other programs: CSV and Parquet, unrounded."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sim.report.comparison import BASE, Compared
from sim.report.estimates import Estimate
from sim.report.groups import Group
from sim.report.tables import user_rows

Rows = list[dict[str, Any]]
_NESTED = (dict, list)


def tables(groups: Sequence[Group], lines: Sequence[Compared]) -> dict[str, Rows]:
    """runs: a row per run. users: a row per run and user. comparison: a row per measure and group."""
    return {"runs": run_rows(groups), "users": _users(groups), "comparison": comparison_rows(groups, lines)}


def run_rows(groups: Sequence[Group]) -> Rows:
    """Every run with the label of its group; what is by user is in the table of users."""
    return [
        {"group": group.label, **flat(asdict(row)), "bytes": row.all_bytes} for group in groups for row in group.rows
    ]


def comparison_rows(groups: Sequence[Group], lines: Sequence[Compared]) -> Rows:
    """Means over seeds and differences from the base, with 95 % intervals; None where there is none."""
    base = next((groups[line.group].label for line in lines if line.verdict == BASE), None)
    return [
        {
            "measure": line.measure.key,
            "group": groups[line.group].label,
            "seeds": line.mean.many,
            **_named(line.mean, "mean", ""),
            "base": base,
            "common_seeds": line.difference.many if line.difference else None,
            **_named(line.difference, "difference", "difference_"),
            "verdict": line.verdict,
        }
        for line in lines
    ]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Without what holds more than one value."""
    return {name: value for name, value in row.items() if not isinstance(value, _NESTED)}


def write(found: dict[str, Rows], folder: Path) -> list[Path]:
    """Each table that has rows as NAME.csv and NAME.parquet; says which files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in found.items():
        if rows:
            table = _table(rows)
            written += [folder / f"{name}.csv", folder / f"{name}.parquet"]
            pyarrow.csv.write_csv(table, written[-2])
            pyarrow.parquet.write_table(table, written[-1])
    return written


def _users(groups: Sequence[Group]) -> Rows:
    return [
        {"group": group.label, "seed": row.seed, "dir": row.dir, **asdict(user), "run": row.run}
        for group in groups
        for run, row in zip(group.runs, group.rows, strict=True)
        for user in user_rows(run, 0)
    ]


def _named(found: Estimate | None, mean: str, stem: str) -> dict[str, float | None]:
    low, high = (None, None) if found is None else (found.low, found.high)
    return {mean: None if found is None else found.mean, f"{stem}low": low, f"{stem}high": high}


def _table(rows: Rows) -> Any:
    """A column without any value holds numbers that are not known."""
    table = pa.Table.from_pylist(rows)
    types = [pa.float64() if pa.types.is_null(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))
