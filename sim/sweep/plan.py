"""The runs of a sweep, every one of them checked before the first starts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import psutil

from sim.caller import Watcher
from sim.effective import effective
from sim.estimate import estimate
from sim.planning import check
from sim.recorder import versions
from sim.runner import run as run_scenario
from sim.scenario import Loaded, Scenario, ScenarioErrors, load, opened
from sim.sweep.grid import Axis, Point, axes, points
from sim.yaml_lines import get


class GridRun(NamedTuple):
    """One point of the grid with one seed, None for the scenario's own: what the pool hands to a process."""

    file: str
    sets: tuple[str, ...]
    over: tuple[str, ...]
    seed: int | None
    transport: str
    label: str

    @property
    def name(self) -> str:
        """For people, and the folder below the root of all runs."""
        return f"{self.label}/seed_{self.seed}"

    def load(self) -> Loaded:
        """The scenario by itself, without what it is compared with. Raises ScenarioErrors."""
        return load(Path(self.file), [*self.sets, "compare=[]"], self.seed, self.transport, self.over)

    def run(self, folder: Path, stop: Callable[[], bool]) -> tuple[str, float]:
        """The run into its folder. Raises RunError."""
        result = run_scenario(self.load(), folder, None, Watcher(stop=stop))
        return result.status, float(result.summary["wall_seconds"])


class Planned(NamedTuple):
    """A run, where its point stands in the grid, and the scenario that it must leave in its folder."""

    run: GridRun
    point: int
    scenario: Scenario

    @property
    def threads(self) -> int:
        """Cores that it can keep busy."""
        return max(self.scenario.threads.edge, self.scenario.threads.user)

    @property
    def work(self) -> int:
        """What tells long runs from short ones: user steps."""
        return self.scenario.rounds * self.scenario.slots * len(self.scenario.users)


class Plan(NamedTuple):
    """A sweep that can start. name: the scenario's. compared: it would have runs beside it, which are left out."""

    name: str
    axes: list[Axis]
    points: list[Point]
    runs: list[Planned]
    compared: bool


def plan(file: Path, overs: Sequence[str], seeds: int, sets: Sequence[str], transport: str) -> Plan:
    """Every run, point by point. Raises ScenarioErrors with everything wrong in the file, the grid and its points."""
    along = axes(overs)
    grid = points(along, seeds)
    found, errors = [], dict[str, list[Point]]()
    for index, point in enumerate(grid):
        run = GridRun(str(file), tuple(sets), point.over, None, transport, point.label)
        try:
            scenario = _checked(run)
        except ScenarioErrors as error:
            for line in error.errors:
                errors.setdefault(line, []).append(point)
            continue
        found += [_seeded(run, index, scenario, n) for n in range(seeds)]
    if errors:
        raise ScenarioErrors([_told(line, where, len(grid)) for line, where in errors.items()])
    beside = get(opened(file, sets, {})[0], "compare")
    return Plan(found[0].scenario.name, along, grid, found, bool(beside and beside.value))


def _checked(run: GridRun) -> Scenario:
    """Raises ScenarioErrors."""
    loaded = run.load()
    if found := check(loaded):
        raise ScenarioErrors(found)
    return loaded.scenario


def _told(line: str, where: Sequence[Point], total: int) -> str:
    """An error that is not every point's, and does not name its `--over`, is told with the first point that has it."""
    return line if line.startswith("--over ") or len(where) == total else f"{line} (with {where[0].title})"


def _seeded(run: GridRun, point: int, scenario: Scenario, number: int) -> Planned:
    seed = scenario.seed + number
    return Planned(run._replace(seed=seed), point, scenario.model_copy(update={"seed": seed}))


def is_done(planned: Planned, root: Path) -> bool:
    """The run is finished, of the same scenario and with the same versions."""
    folder = root / planned.run.name
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        said = (folder / "scenario.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    equal = versions().items() <= manifest.items() and said == effective(planned.scenario)
    return bool(equal and manifest["status"] == "done")


def jobs_that_fit(runs: Sequence[Planned]) -> int:
    """Runs at a time: cores / threads of a run, as many as fit into free memory; one where runs start a Ray each."""
    threads = max(one.threads for one in runs)
    largest = max((one.scenario for one in runs), key=lambda scenario: len(scenario.users))
    room = psutil.virtual_memory().available / (1e6 * estimate(largest)["edge_megabytes"])
    if largest.transport == "ray":
        return 1
    cores: int = joblib.cpu_count()
    return max(1, min(cores // threads, int(room)))
