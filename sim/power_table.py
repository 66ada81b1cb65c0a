"""`power.json`: what a published policy is worth, and which limits it breaks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from edge_server.power_config import SampleCounts
from edge_server.record import Event
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.problems import Unsupervised
from edge_server.routed_mtl.tasks import Tasks
from sim.power_scores import mask_overlap, score

SMALL_VIOLATION = 0.02
"""Of the limit on mean power; .01 W at the paper's .5 W."""
LARGEST_VIOLATION = 0.2
"""The same for the user with the largest; beyond it, that user's power hardly follows its channel."""

Scores = list[dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """A trainer that has ended after `taken` steps in `seconds`; state: its tensors by name."""

    design: Design
    taken: int
    seconds: float
    bdnn_parameters: int | None
    state: Mapping[str, Tensor]


def power_table(trained: Trained, scores: Scores) -> dict[str, Any]:
    """The content of power.json."""
    return {
        "scheme": trained.design.scheme,
        "seeds": [trained.design.seed],
        "steps": trained.design.steps,
        "steps_taken": trained.taken,
        "bdnn_parameters": trained.bdnn_parameters,
        "tasks": scores,
        "mask_overlap": mask_overlap(trained.state),
        "train_seconds": trained.seconds,
    }


def scored(policy: Policy, tasks: Tasks, seed: int, counts: SampleCounts) -> Iterator[dict[str, Any]]:
    """The entries of power.json's tasks, each as it is known."""
    for task in tasks:
        samples = counts.test if task.problem.kind == "supervised" else counts.violation
        yield score(policy, task.problem, task.users, seed, samples)


@dataclass(frozen=True)
class Broken:
    """A task whose mean power, or that of one user, misses its limit by `watts`, more than `allowed`."""

    task: str
    of: str
    watts: float
    allowed: float

    @property
    def event(self) -> Event:
        """For events.jsonl."""
        return {"event": "violation", "task": self.task, "of": self.of, "watts": self.watts}

    @property
    def note(self) -> str:
        """For people."""
        return (
            f"note: {self.task}: {self.of} misses its limit by {self.watts:+.4f} W, more than {self.allowed:g} W: "
            "its rate is not a result"
        )


def broken_limits(tasks: Tasks, scores: Sequence[Mapping[str, Any]]) -> Iterator[Broken]:
    """Every limit on mean power that a policy with these scores breaks."""
    for task, entry in zip(tasks, scores, strict=True):
        if task.problem.kind == "unsupervised":
            limit = cast("Unsupervised", task.problem).mean_power(task.users)
            broken = (
                Broken(str(task), "the mean power", entry["violation_mean"], SMALL_VIOLATION * limit),
                Broken(str(task), "one user's mean power", entry["violation_max"], LARGEST_VIOLATION * limit),
            )
            yield from (one for one in broken if abs(one.watts) > one.allowed)
