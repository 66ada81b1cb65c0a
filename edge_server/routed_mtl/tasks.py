"""The tasks one network learns: pairs of a problem and a number of users N."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from edge_server.routed_mtl.design import PAPER_USERS
from edge_server.routed_mtl.problems import Problem, payload_ratio


@dataclass(frozen=True)
class Task:
    """One problem with `users` users; `str()` names it, as in `p4_capacity/5`."""

    problem: Problem
    users: int

    def __post_init__(self) -> None:
        if self.users < 1:
            raise ValueError(f"task {self.problem.name}: users must be at least 1, got {self.users}")

    def __str__(self) -> str:
        return f"{self.problem.name}/{self.users}"


@dataclass(frozen=True)
class Tasks:
    """The tasks of one network, in the order of every [K, ...] tensor. Raises ValueError if empty or repeated."""

    items: tuple[Task, ...]

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("tasks: none given, a network needs at least one (problem, users) pair")
        repeated = {str(task) for task in self.items if self.items.count(task) > 1}
        if repeated:
            raise ValueError(f"tasks: given more than once: {', '.join(sorted(repeated))}")

    @classmethod
    def of(cls, pairs: Sequence[tuple[Problem, int]]) -> "Tasks":
        """Tasks from (problem, users) pairs."""
        return cls(tuple(Task(problem, users) for problem, users in pairs))

    @classmethod
    def grid(cls, problems: Sequence[Problem], users: Sequence[int] = PAPER_USERS) -> "Tasks":
        """Every problem with every number of users, problem by problem; the paper has two problems and seven N."""
        return cls.of([(problem, number) for problem in problems for number in users])

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Task:
        return self.items[index]

    @property
    def max_users(self) -> int:
        """The largest N."""
        return max(task.users for task in self.items)

    @property
    def payloads(self) -> bool:
        """Whether some task's payloads differ, so that the network must be told them."""
        return any(payload_ratio(task.problem) > 1 for task in self.items)

    @cached_property
    def groups(self) -> tuple[tuple[Problem, tuple[int, ...]], ...]:
        """Each distinct problem with the indices of its tasks, in order of first appearance."""
        problems = list(dict.fromkeys(task.problem for task in self.items))
        return tuple((p, tuple(i for i, task in enumerate(self.items) if task.problem == p)) for p in problems)

    def presence(self, places: int) -> Tensor:
        """bool [K, places]: which of the places hold a user (the first N of each task)."""
        users = torch.tensor([task.users for task in self.items])
        return torch.arange(places) < users.unsqueeze(1)
