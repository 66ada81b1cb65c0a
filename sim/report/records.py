"""The small files of a run directory: JSON, the scenario, the events. Errors are one line."""

import json
from pathlib import Path
from typing import Any

import yaml

from sim.report.files import UnreadableRun

Json = dict[str, Any]


def is_training(folder: Path) -> bool:
    """Whether a directory holds a power trainer by itself: a server task, and no users."""
    path = folder / "scenario.yaml"
    told = read_scenario(path, read_text(path)) if path.exists() else {}
    return "users" not in told and "server_tasks" in (told.get("edge") or {})


def read_text(path: Path) -> str:
    """The whole file. Raises UnreadableRun."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableRun(
            f"{path.parent} is not a run: {path.name} is missing; give a directory that `equiran run` wrote"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableRun(f"{path}: cannot be read ({error}); restore it or run again") from error


def read_json(path: Path) -> Json:
    """One JSON object. Raises UnreadableRun."""
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UnreadableRun(f"{path}:{error.lineno}: not JSON ({error.msg}); restore it or run again") from error
    if not isinstance(found, dict):
        raise UnreadableRun(f"{path}: must hold one JSON object, holds {type(found).__name__}")
    return found


def read_scenario(path: Path, text: str) -> Json:
    """The tree in `text`; empty where it is no mapping. Raises UnreadableRun."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UnreadableRun(f"{path}: not YAML ({reason}); restore it or run again") from error
    return found if isinstance(found, dict) else {}


def read_events(path: Path) -> tuple[tuple[Json, ...], bool]:
    """The events, and whether the last line was still being written."""
    if not path.exists():
        return (), False
    *whole, rest = read_text(path).split("\n")
    events = [parsed_event(path, number, line) for number, line in enumerate(whole, 1) if line.strip()]
    return tuple(events), bool(rest.strip())


def parsed_event(path: Path, number: int, line: str | bytes) -> Json:
    """One line of a file of events. Raises UnreadableRun, naming the line."""
    try:
        found = json.loads(line)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UnreadableRun(f"{path}:{number}: not JSON ({reason}); remove the line or run again") from error
    if not isinstance(found, dict):
        raise UnreadableRun(f"{path}:{number}: an event must be one JSON object")
    return found
