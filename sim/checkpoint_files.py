"""Checkpoints of one run on disk: each is whole or not there, every byte is hashed, the last three stay.

What a checkpoint holds is its owner's affair: this file knows names and bytes, and the scenario they belong to.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

FOLDER = "checkpoints"
"""Where a run keeps them, below its directory."""
SCHEMA = 3
KEPT = 3
_MANIFEST = "manifest.json"
_PARTIAL, _OLD = "partial-", "old-"

Json = dict[str, Any]


class NoCheckpoint(Exception):
    """A run's checkpoints cannot be used; one line says why."""


class NotSaved(Exception):
    """A checkpoint could not be written; the ones before it are as they were. One line says why."""


class _Damaged(Exception):
    """This checkpoint is not as it was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint. number: how far the run was. versions: what it was written with."""

    number: int
    files: dict[str, bytes]
    versions: dict[str, str]


class CheckpointFolder:
    """The checkpoints of one run, `folder/NUMBER/`, each with its files and a manifest that was written last."""

    def __init__(self, folder: Path, scenario: Json, versions: Mapping[str, str]) -> None:
        """scenario: the effective one, as JSON. versions: of everything that the numbers depend on."""
        self._folder, self._scenario, self._versions = folder, scenario, dict(versions)

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        """Writes a checkpoint; returns once it would survive a power cut. Removes all but the last three.

        A checkpoint further than `number` was left behind by a run that went on from before it: it goes too.
        Raises NotSaved.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            self._remove_leftovers()
            self._write(number, files)
        except OSError as error:
            raise NotSaved(self._why(number, files, error)) from error

    def newest(self, on_damage: Callable[[str], None], among: Collection[int] | None = None) -> Checkpoint | None:
        """The last whole checkpoint; None where none was ever finished. Damaged ones are named to `on_damage`.

        among: numbers that will do; None: all. Raises NoCheckpoint when all are damaged, or when it belongs to another
        scenario or another schema.
        """
        return next((found for found in self._whole(on_damage) if among is None or found.number in among), None)

    def whole(self, on_damage: Callable[[str], None]) -> list[int]:
        """Numbers of all whole checkpoints, the last one first. Raises as `newest`."""
        return [found.number for found in self._whole(on_damage)]

    def _whole(self, on_damage: Callable[[str], None]) -> Iterator[Checkpoint]:
        for partial in sorted(self._folder.glob(f"{_PARTIAL}*")):
            on_damage(f"{partial} was never finished; it is left out")
        damaged, numbers = [], self.numbers()
        for number in reversed(numbers):
            try:
                found = self._checked(number)
            except _Damaged as error:
                damaged.append(str(error))
                on_damage(str(error))
            else:
                yield found
        if damaged and len(damaged) == len(numbers):
            raise NoCheckpoint(f"no checkpoint in {self._folder} is whole: {damaged[0]}; run the scenario again")

    def numbers(self) -> list[int]:
        """Of the checkpoints there are, ascending."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def _write(self, number: int, files: Mapping[str, bytes]) -> None:
        if self._holds(number, files):
            return
        partial = self._folder / f"{_PARTIAL}{number}"
        partial.mkdir()
        for name, content in files.items():
            _write_through(partial / name, content)
        _write_through(partial / _MANIFEST, self._manifest(number, files))
        _sync(partial)
        self._remove(self._place(number))
        partial.rename(self._place(number))
        _sync(self._folder)
        for old in self._outdated(number):
            self._remove(self._place(old))

    def _holds(self, number: int, files: Mapping[str, bytes]) -> bool:
        """The same bytes are there, whole: to write them again would put them at risk."""
        try:
            return number in self.numbers() and self._checked(number).files == dict(files)
        except (_Damaged, NoCheckpoint):
            return False

    def _outdated(self, number: int) -> list[int]:
        there = self.numbers()
        past = [other for other in there if other <= number]
        return [*past[:-KEPT], *(other for other in there if other > number)]

    def _manifest(self, number: int, files: Mapping[str, bytes]) -> bytes:
        content = {
            "schema": SCHEMA,
            "number": number,
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": self._versions,
            "scenario": self._scenario,
            "files": {name: {"bytes": len(data), "sha256": _hash(data)} for name, data in files.items()},
        }
        return json.dumps({**content, "sha256": manifest_hash(content)}, indent=2).encode()

    def _checked(self, number: int) -> Checkpoint:
        """Raises _Damaged, or NoCheckpoint for one that is whole and not of this run."""
        folder = self._place(number)
        manifest = _manifest_in(folder)
        self._refuse_other(folder, manifest)
        files = {name: _file(folder / name, told) for name, told in manifest["files"].items()}
        return Checkpoint(number, files, manifest["versions"])

    def _refuse_other(self, folder: Path, manifest: Json) -> None:
        ours: Json = {"schema": SCHEMA}
        if manifest["schema"] == SCHEMA:
            ours |= {"scenario": self._scenario}
        for path, here, there in differences(ours, {key: manifest[key] for key in ours}):
            raise NoCheckpoint(f"{folder} is not of this run: {path} is {here} here and {there} in the checkpoint")

    def _place(self, number: int) -> Path:
        return self._folder / f"{number:012d}"

    def _remove_leftovers(self) -> None:
        for prefix in (_PARTIAL, _OLD):
            for folder in self._folder.glob(f"{prefix}*"):
                shutil.rmtree(folder)

    def _remove(self, folder: Path) -> None:
        """At no moment half of it stands under its name."""
        if folder.exists():
            gone = self._folder / f"{_OLD}{folder.name}"
            folder.rename(gone)
            shutil.rmtree(gone)

    def _why(self, number: int, files: Mapping[str, bytes], error: OSError) -> str:
        needed = sum(map(len, files.values()))
        free = shutil.disk_usage(self._folder.parent).free
        return (
            f"checkpoint {number} could not be saved in {self._folder}: {error.strerror or error}; "
            f"it needs {needed:,} bytes, {free:,} are free; the one before it is kept"
        )


def differences(here: Any, there: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths at which two JSON trees differ, with what each of them has; None for what is missing."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in dict.fromkeys([*here, *there]):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for index, (ours, theirs) in enumerate(zip(here, there, strict=True)):
            yield from differences(ours, theirs, f"{path}.{index}")
    elif here != there:
        yield path, here, there


def manifest_hash(content: Json) -> str:
    """SHA-256 of a manifest without its own hash, as canonical JSON."""
    return _hash(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _manifest_in(folder: Path) -> Json:
    try:
        found = json.loads((folder / _MANIFEST).read_bytes())
        content = {key: value for key, value in found.items() if key != "sha256"}
        whole = manifest_hash(content) == found["sha256"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _Damaged(f"{folder / _MANIFEST} is missing or damaged") from error
    if not whole:
        raise _Damaged(f"{folder / _MANIFEST} is damaged: its SHA-256 is not the one it was written with")
    return content


def _file(path: Path, told: Json) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _Damaged(f"{path} is missing or cannot be read") from error
    if len(content) != told["bytes"]:
        raise _Damaged(f"{path} has {len(content):,} bytes, it was written with {told['bytes']:,}")
    if _hash(content) != told["sha256"]:
        raise _Damaged(f"{path} is damaged: its SHA-256 is not the one it was written with")
    return content


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """What was renamed inside a folder is there after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
