"""The scenarios that come with EquiRAN: where they lie."""

from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"
"""In the repository a link to its own folder of them."""
WRITTEN = Path("scenarios")
"""Where `equiran scenarios` writes them, unless told otherwise."""


def shipped_hint(missing: Path) -> str:
    """What to do about a scenario that is not there, where one of that name comes with EquiRAN; else nothing."""
    for path in sorted(SCENARIOS.rglob("*.yaml")):
        if path.stem == missing.stem:
            there = WRITTEN / path.relative_to(SCENARIOS)
            return f"; did you mean {there}?" if there.exists() else f"; `equiran scenarios` writes it to {there}"
    return ""
