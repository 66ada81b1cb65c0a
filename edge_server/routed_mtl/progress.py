"""What a training run shows of itself while it runs."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edge_server.routed_mtl.tasks import Tasks

WINDOW = 100


@dataclass
class Smoothed:
    """Running means over each task's last ~100 steps: objective [K], violation [K] in W; seen [K] counts the steps."""

    objective: Tensor
    violation: Tensor
    seen: Tensor

    @classmethod
    def start(cls, tasks: int, device: str) -> "Smoothed":
        """Nothing seen."""
        return cls(*(torch.zeros(tasks, device=device) for _ in range(3)))

    def add(self, objective: Tensor, excess: Tensor, presence: Tensor, chosen: Tensor | None) -> None:
        """One step's objective [T], excess and presence [T, N] of the tasks `chosen` [T], None for all."""
        rows = slice(None) if chosen is None else chosen
        self.seen[rows] += 1
        weight = 1 / self.seen[rows].clamp(max=WINDOW)
        self.objective[rows] += weight * (objective - self.objective[rows])
        self.violation[rows] += weight * (excess.sum(1) / presence.sum(1) - self.violation[rows])

    def state(self) -> dict[str, Tensor]:
        """Copies of its tensors, by name."""
        return {name: value.clone() for name, value in asdict(self).items()}

    def to(self, device: str) -> "Smoothed":
        """The same on another device."""
        return Smoothed(self.objective.to(device), self.violation.to(device), self.seen.to(device))


@dataclass(frozen=True)
class TaskProgress:
    """One task: its rate in bits (unsupervised) or its loss (supervised), and the mean over n of E[P_n] - limit, W."""

    task: str
    kind: str
    objective: float
    violation: float


@dataclass(frozen=True)
class Progress:
    """Step `taken` of `steps`, in stage 1 or 2; `loss` is the last step's, the tasks' numbers are smoothed."""

    taken: int
    steps: int
    stage: int
    loss: float
    tasks: tuple[TaskProgress, ...]

    @classmethod
    def of(cls, taken: int, steps: int, stage: int, loss: float, smoothed: Smoothed, tasks: Tasks) -> "Progress":
        """From a trainer's counters; a task that no step has drawn yet has NaN."""
        never = torch.where(smoothed.seen > 0, 0.0, torch.nan)
        rows = zip(tasks, (smoothed.objective + never).tolist(), (smoothed.violation + never).tolist(), strict=True)
        return cls(taken, steps, stage, loss, tuple(TaskProgress(str(t), t.problem.kind, o, v) for t, o, v in rows))

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Progress":
        """What `dataclasses.asdict` made of one."""
        return cls(**{**content, "tasks": tuple(TaskProgress(**task) for task in content["tasks"])})

    @property
    def worst_violation(self) -> float:
        """The largest |violation| over the unsupervised tasks drawn so far, in W; 0 without any."""
        drawn = [abs(t.violation) for t in self.tasks if t.kind == "unsupervised" and t.violation == t.violation]
        return max(drawn, default=0.0)
