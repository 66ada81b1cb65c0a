"""The runs that an experiment needs: shipped scenarios with overrides, each with a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

from sim.caller import RunError, Status, Watcher
from sim.planning import check
from sim.pool import Run
from sim.power_run import PowerWatcher, train_power
from sim.power_scenario import LoadedPower, load_power
from sim.runner import run as run_scenario
from sim.scenario import Loaded, load
from sim.shipped import SCENARIOS


class Size(NamedTuple):
    """How much of an experiment to run. seeds: from 0; quick: small runs that are no reproduction."""

    seeds: int
    quick: bool


class Work(Run, Protocol):
    """One run of any kind: `Job` is a slot scenario, `PowerJob` trains a power policy. Equal work is done once."""

    @property
    def may_fail(self) -> bool:
        """A run without an answer is a result of its own."""
        ...

    def __hash__(self) -> int: ...

    def problems(self) -> list[str]:
        """What keeps it from starting, one line each."""
        ...

    def load(self) -> Loaded | LoadedPower:
        """The scenario. Raises ScenarioErrors."""
        ...


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

    def problems(self) -> list[str]:
        """What keeps the scenario from starting, such as data that is not here."""
        return [*check(self.load())]

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[Status, float]:
        """The run into its folder. Raises RunError unless it may fail."""
        try:
            result = run_scenario(self.load(), folder, None, Watcher(stop=stop))
        except RunError:
            if self.may_fail:
                return "failed", 0.0
            raise
        return result.status, float(result.summary["wall_seconds"])


class PowerJob(NamedTuple):
    """One training run of a power policy: `file` below scenarios/, a label, its overrides, and a seed."""

    file: str
    label: str
    sets: tuple[str, ...]
    seed: int
    may_fail: bool = False

    @property
    def name(self) -> str:
        """For people, and the folder below the root of all runs."""
        return f"power/{self.label}/seed_{self.seed}"

    def load(self) -> LoadedPower:
        """The scenario. Raises ScenarioErrors."""
        return load_power(SCENARIOS / self.file, self.sets, self.seed)

    def problems(self) -> list[str]:
        """Nothing: it needs no data, and loading it has checked the rest."""
        self.load()
        return []

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[Status, float]:
        """Trained and scored into its folder. Raises RunError."""
        start = perf_counter()
        result = train_power(self.load(), folder, PowerWatcher(stop=stop))
        return result.status, perf_counter() - start


def seeds(file: str, label: str, sets: tuple[str, ...], count: int, *, may_fail: bool = False) -> list[Job]:
    """The same run for every seed below `count`."""
    return [Job(file, label, sets, seed, may_fail) for seed in range(count)]
