"""The scenario of a power trainer by itself: no users and no slots, one server task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_server.config_base import Config
from edge_server.power_config import RoutedMtl
from sim.check import Rules, problems
from sim.scenario import SLOT_KEYS, Name, ThreadCount, opened, refuse
from sim.yaml_lines import Node, Problem, get, plain, where


class EdgeThreads(Config):
    """Intra-op threads of the trainer; part of the numbers."""

    edge: ThreadCount = 1


class PowerEdge(Config):
    """The edge server, as far as the trainer needs it."""

    server_tasks: tuple[RoutedMtl, ...]

    @model_validator(mode="after")
    def _one(self) -> "PowerEdge":
        if len(self.server_tasks) != 1:
            raise ValueError(f"server_tasks must hold one task to train by itself, got {len(self.server_tasks)}")
        return self


class PowerScenario(Config):
    """One training run of one network."""

    schema_number: Literal[1] = Field(alias="schema")
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: EdgeThreads = EdgeThreads()
    edge: PowerEdge

    @property
    def task(self) -> RoutedMtl:
        """Its one server task."""
        return self.edge.server_tasks[0]


@dataclass(frozen=True)
class LoadedPower:
    """A power scenario, the file it came from, and the tree that knows its lines."""

    scenario: PowerScenario
    path: Path
    tree: Node

    @property
    def where(self) -> str:
        """`file:line` of the server task."""
        return where(self.tree, ("edge", "server_tasks", 0))


RULES = Rules(
    reasons={},
    patterns={
        "name": "letters, digits, - and _, beginning with a letter, digit or _, at most 64",
        "problem": "p3, p3_min_max, p4 or package.module:Class",
        "device": "cpu, cuda or cuda:N",
    },
)


def load_power(path: Path, sets: Sequence[str] = (), seed: int | None = None) -> LoadedPower:
    """The scenario in `path` with `--set a.b=c` overrides, then `seed`, applied. Raises ScenarioErrors, all at once."""
    root, found = opened(path, sets, {"seed": seed})
    refuse([*found, *_problems(root)])
    return LoadedPower(PowerScenario.model_validate(plain(root)), path, root)


def _problems(root: Node) -> list[Problem]:
    if not isinstance(root.value, dict):
        return [Problem(root.where, "", "a scenario is a mapping, beginning with `schema: 1`")]
    if root.value.keys() >= SLOT_KEYS or not (get(root, "edge", "server_tasks") or SLOT_KEYS.isdisjoint(root.value)):
        return [Problem(root.where, "", "a scenario with slots; give it to `equiran run`")]
    return [*problems(PowerScenario, root, "", RULES)]
