"""What happened to a run, by kind, and which kinds are trouble."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

BAD = frozenset(
    {"failed", "lost", "rejected", "late", "came_late", "not_saved", "traceback", "fault", "no_digest", "locked",
     "quarantined", "server_task_failed", "server_task_not_scored"}
)  # fmt: skip
GOOD = frozenset({"recovered", "returned", "began_anew", "resumed", "continued"})
"""Trouble that is over."""


def event_kind(event: dict[str, Any]) -> str:
    """What happened."""
    return str(event.get("event", "unnamed"))


def event_counts(events: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    """Events by kind, most frequent first."""
    return Counter(map(event_kind, events)).most_common()
