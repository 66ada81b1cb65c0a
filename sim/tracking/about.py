"""What a run was, and how it ended, from the small files of its directory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sim.report.records import Json, read_json, read_scenario, read_text

_VERSIONS = ("equiran", "python", "torch", "ray", "grpc", "numpy")
_TAGS = ("scenario", "transport", "device", *_VERSIONS)


class About(NamedTuple):
    """A run as it begins. text: its scenario. settings: that, a line each. tags: where and with what it runs."""

    name: str
    folder: Path
    text: str
    settings: dict[str, bool | int | float | str]
    tags: dict[str, str]


class Outcome(NamedTuple):
    """A run as it ended. totals: numbers of its summary."""

    status: str
    digest: str | None
    totals: dict[str, float]


def about(folder: Path) -> About:
    """Raises UnreadableRun."""
    manifest, path = read_json(folder / "manifest.json"), folder / "scenario.yaml"
    text = read_text(path)
    tags = {name: str(manifest[name]) for name in _TAGS if manifest.get(name) is not None}
    return About(str(manifest["name"]), folder, text, dict(_settings(read_scenario(path, text))), tags)


def outcome(folder: Path) -> Outcome:
    """Of a run that is over. Raises UnreadableRun."""
    manifest, summary = read_json(folder / "manifest.json"), folder / "summary.json"
    totals = read_json(summary) if summary.exists() else {}
    numbers = {name: float(value) for name, value in totals.items() if type(value) in (int, float)}
    return Outcome(str(manifest["status"]), manifest.get("digest"), numbers)


def _settings(tree: Json) -> Iterator[tuple[str, bool | int | float | str]]:
    """Keys as `--set` has them. Users are counted: the text has them all."""
    users = tree.pop("users", [])
    yield "users", int(users["count"]) if isinstance(users, dict) else len(users)
    yield from _leaves(tree, "")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, bool | int | float | str) else json.dumps(value)
