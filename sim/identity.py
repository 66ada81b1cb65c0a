"""What makes two scenarios the same run: everything but where it runs."""

import json
import os
from collections.abc import Iterator
from hashlib import file_digest, sha256
from typing import Any

from sim.scenario import Scenario

ELSEWHERE = ("transport", "hosts", "trunk", "patience", "security", "checkpoints")
"""What may change when a run goes on: no number depends on it."""

_OWN = ("compare", "record")
"""What the edge alone has a use for."""
_SHORT = 64
"""Characters of a value that is told as it is."""


def identity(scenario: Scenario) -> dict[str, Any]:
    """The scenario as JSON, without what changes no number and without what stands beside it."""
    return {key: value for key, value in _kept(scenario).items() if key != "compare"}


def fingerprint(scenario: Scenario) -> str:
    """SHA-256 of the scenario, comparisons included, and of the files that it names."""
    tree = _kept(scenario)
    content = {"scenario": tree, "files": {path: _hash(path) for path in sorted({*_files(tree)})}}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shared(scenario: Scenario) -> dict[str, str]:
    """What an edge and users that stand apart must have alike, by keys of the first two levels: JSON, or a hash of it.

    Where files lie is everybody's own affair.
    """
    tree = {key: value for key, value in _kept(scenario).items() if key not in _OWN}
    texts = {key: json.dumps(_without_places(value), sort_keys=True) for key, value in _two_levels(tree)}
    return {
        key: text if len(text) <= _SHORT else f"#{sha256(text.encode()).hexdigest()}" for key, text in texts.items()
    }


def _two_levels(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield from (
            ((f"{key}.{name}", part) for name, part in value.items()) if isinstance(value, dict) else [(key, value)]
        )


def _without_places(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_places(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_places(value) for value in tree]
    return "a file" if isinstance(tree, str) and os.path.isabs(tree) else tree


def _files(tree: Any) -> Iterator[str]:
    """Every text in a scenario that is the path of a file, or of a policy's two."""
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _files(part)
    elif isinstance(tree, str) and os.path.isabs(tree):
        yield from (path for ending in ("", ".safetensors", ".json") if os.path.isfile(path := tree + ending))


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _kept(scenario: Scenario) -> dict[str, Any]:
    tree = scenario.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in tree.items() if key not in ELSEWHERE}
