"""The runs that an experiment needs: shipped scenarios with overrides, each with a folder of its own."""

from pathlib import Path
from typing import NamedTuple

from sim.scenario import Loaded, load

SCENARIOS = Path(__file__).parents[2] / "scenarios"


class Size(NamedTuple):
    """How much of an experiment to run. seeds: from 0; quick: small runs that are no reproduction."""

    seeds: int
    quick: bool


class Job(NamedTuple):
    """One run: `file` below scenarios/, a label among that file's runs, its overrides, and a seed.

    may_fail: a run without an answer is a result of its own.
    """

    file: str
    label: str
    sets: tuple[str, ...]
    seed: int
    may_fail: bool = False

    @property
    def name(self) -> str:
        """For people, and the folder below the root of all runs."""
        return f"{Path(self.file).stem}/{self.label}/seed_{self.seed}"

    def load(self) -> Loaded:
        """The scenario, in memory and by itself. Raises ScenarioErrors."""
        return load(SCENARIOS / self.file, [*self.sets, "compare=[]"], self.seed, "memory")


def seeds(file: str, label: str, sets: tuple[str, ...], count: int, *, may_fail: bool = False) -> list[Job]:
    """The same run for every seed below `count`."""
    return [Job(file, label, sets, seed, may_fail) for seed in range(count)]
