"""Where two trees of YAML or JSON differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MISSING = object()
"""Stands for what is not there."""


@dataclass(frozen=True)
class Difference:
    """One key. counts: the numbers of a run depend on it."""

    path: str
    a: Any
    b: Any
    counts: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON: without what is not there."""
        sides = {name: value for name, value in (("a", self.a), ("b", self.b)) if value is not MISSING}
        return {"path": self.path, **sides, "counts": self.counts}


def differences(a: Any, b: Any, idle: frozenset[str] = frozenset(), path: str = "") -> Iterator[Difference]:
    """Every leaf that is not the same, in a's order; what has a name goes by it. idle: first keys that do not count."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys((*a, *b)):
            yield from differences(a.get(key, MISSING), b.get(key, MISSING), idle, f"{path}.{key}" if path else key)
    elif _named(a) and _named(b):
        yield from _lists(a, b, idle, path)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and _deep(a + b):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, idle, f"{path}.{number}")
    elif a != b:
        yield Difference(path, a, b, path.partition(".")[0] not in idle)


def _lists(a: list[Any], b: list[Any], idle: frozenset[str], path: str) -> Iterator[Difference]:
    ours, theirs = ({one["name"]: one for one in side} for side in (a, b))
    if [*ours] != [*theirs]:
        yield Difference(f"{path} (names)", [*ours], [*theirs], path.partition(".")[0] not in idle)
    for name in ours:
        if name in theirs:
            yield from differences(ours[name], theirs[name], idle, f"{path}.{name}")


def _named(side: Any) -> bool:
    """A list of mappings that each have a name of their own."""
    if not isinstance(side, list) or not side or not all(isinstance(one, dict) and "name" in one for one in side):
        return False
    return len({one["name"] for one in side}) == len(side)


def _deep(parts: list[Any]) -> bool:
    return bool(parts) and all(isinstance(part, dict) for part in parts)
