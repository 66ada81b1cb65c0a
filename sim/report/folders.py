"""Which run directories are meant: those that are named, and those inside a folder of runs, such as a sweep's."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

_DEEP = 3
"""Folders between a named one and a run in it: a sweep has runs/POINT/seed_N."""


def run_folders(dirs: Sequence[Path]) -> list[Path]:
    """Each of `dirs` that is a run, and the runs inside each that is not: as a sweep's table has them, else by name.

    A folder with no run in it stays as it is: reading it says what is missing.
    """
    return [run for folder in map(Path, dirs) for run in _meant(folder)]


def _meant(folder: Path) -> list[Path]:
    if _is_run(folder) or not folder.is_dir():
        return [folder]
    return _in_order(folder, _inside(folder, _DEEP)) or [folder]


def _inside(folder: Path, deep: int) -> list[Path]:
    """The runs below; not those that stand in a run's directory, which reading adds."""
    found = []
    for inner in sorted(filter(Path.is_dir, folder.iterdir()), key=_by_numbers):
        if _is_run(inner):
            found.append(inner)
        elif deep > 1:
            found += _inside(inner, deep - 1)
    return found


def _is_run(folder: Path) -> bool:
    return (folder / "manifest.json").exists()


def _by_numbers(path: Path) -> list[str | int]:
    """slots=8 comes before slots=16."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _in_order(folder: Path, found: list[Path]) -> list[Path]:
    table = folder / "sweep.csv"
    if not table.exists():
        return found
    with table.open(encoding="utf-8", newline="") as file:
        places = {Path(line["dir"]).parts[-2:]: place for place, line in enumerate(csv.DictReader(file))}
    return sorted(found, key=lambda run: places.get(run.parts[-2:], len(places)))
