"""What makes two scenarios the same run: everything but where it runs."""

import json
from hashlib import sha256
from typing import Any

from sim.scenario import Scenario

ELSEWHERE = ("transport", "hosts", "trunk", "patience")
"""What may change when a run goes on: no number depends on it."""


def identity(scenario: Scenario) -> dict[str, Any]:
    """The scenario as JSON, without what changes no number and without what stands beside it."""
    return {key: value for key, value in _kept(scenario).items() if key != "compare"}


def fingerprint(scenario: Scenario) -> str:
    """SHA-256 of the scenario, comparisons included."""
    return sha256(json.dumps(_kept(scenario), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _kept(scenario: Scenario) -> dict[str, Any]:
    tree = scenario.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in tree.items() if key not in ELSEWHERE}
