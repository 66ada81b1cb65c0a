"""The runs under a folder, by the names that the page knows them by."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sim.report.files import UnreadableRun
from sim.report.records import read_json

_DEEP = 5
_MOST = 500
_PASSED_OVER = {"checkpoints"}
HERE = "."


class Found(NamedTuple):
    """A run under the folder. name: its path from there, `.` for the folder itself."""

    name: str
    status: str
    started: str


class UnknownRun(Exception):
    """No run of this name is there; the message is one line."""


def runs_under(folder: Path) -> list[Found]:
    """The newest first; those compared with a run follow it. A folder that cannot be read is passed over."""
    found = {run.name: run for run in (_found(folder, path) for path in _manifests(folder, _DEEP))}
    bases = {name: found[_base(name, found)] for name in found}

    def key(run: Found) -> tuple[str, str, bool, str]:
        base = bases[run.name]
        return base.started, base.name, run is base, run.started

    return sorted(found.values(), key=key, reverse=True)[:_MOST]


def _base(name: str, found: Mapping[str, Found]) -> str:
    """The outermost run in whose directory this one is, or itself."""
    if HERE in found:
        return HERE
    steps = name.split("/")
    return next(outer for n in range(1, len(steps) + 1) if (outer := "/".join(steps[:n])) in found)


def _manifests(folder: Path, deep: int) -> Iterator[Path]:
    try:
        entries = [*os.scandir(folder)]
    except OSError:
        return
    if any(entry.name == "manifest.json" for entry in entries):
        yield folder
    for entry in sorted(entries, key=lambda entry: entry.name) if deep else ():
        if entry.is_dir(follow_symlinks=False) and entry.name not in _PASSED_OVER and not entry.name.startswith("."):
            yield from _manifests(Path(entry.path), deep - 1)


def _found(folder: Path, path: Path) -> Found:
    name = path.relative_to(folder).as_posix()
    try:
        manifest = read_json(path / "manifest.json")
    except UnreadableRun:
        return Found(name, "unreadable", "")
    return Found(name, str(manifest.get("status", "unknown")), str(manifest.get("started", "")))


def run_of(folder: Path, name: str) -> Path:
    """The directory of a run by its name. Raises UnknownRun, also for a name that leads out of the folder."""
    root = folder.resolve()
    path = root if "\0" in name else (root / name).resolve()
    if "\0" in name or not path.is_relative_to(root):
        raise UnknownRun(f"no run {name!r} under {folder}")
    return path
