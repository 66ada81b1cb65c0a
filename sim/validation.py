"""What `equiran validate` finds out about scenarios of either kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.advice import advice
from sim.caller import BadScenario
from sim.console import Screen, say
from sim.effective import effective
from sim.estimate import estimate
from sim.planning import check
from sim.power_estimate import estimate_power
from sim.power_run import rehearse
from sim.power_scenario import PowerScenario, load_power
from sim.scenario import Scenario, ScenarioErrors, load, opened, trains_alone


@dataclass(frozen=True)
class Valid:
    """A scenario that can run, what it will need, and what its owner should know."""

    file: Path
    scenario: Scenario | PowerScenario
    estimate: dict[str, Any]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As `--json` has it."""
        tree = self.scenario.model_dump(mode="json", by_alias=True)
        known = {"scenario": tree, "estimate": self.estimate, "notes": self.notes}
        return {"valid": True, "file": str(self.file), **known}


def valid(files: Sequence[Path], sets: Sequence[str]) -> list[Valid]:
    """Every file with the overrides applied. Raises ScenarioErrors with all errors of all files."""
    found, errors = [], list[str]()
    for file in files:
        try:
            found.append(_valid(file, sets))
        except ScenarioErrors as error:
            errors += error.errors
        except BadScenario as error:
            errors.append(str(error))
    if errors:
        raise ScenarioErrors(errors)
    return found


def tell_valid(one: Valid, *, alone: bool) -> None:
    """The scenario as it would run, then estimates and notes; under its file's name unless it stands alone."""
    if not alone:
        say(f"# {one.file}")
    say(effective(one.scenario).rstrip())
    for name, value in one.estimate.items():
        say(f"# {name.replace('_', ' ')}: {value}")
    for note in one.notes:
        Screen(quiet=False).note(f"note: {note}" if alone else f"note: {one.file}: {note}")


def _valid(file: Path, sets: Sequence[str]) -> Valid:
    root, _ = opened(file, sets, {})
    if trains_alone(root):
        power = load_power(file, sets)
        return Valid(file, power.scenario, estimate_power(power.scenario, rehearse(power)), [])
    loaded = load(file, sets)
    if found := check(loaded):
        raise ScenarioErrors(found)
    return Valid(file, loaded.scenario, estimate(loaded.scenario), advice(loaded.scenario))
