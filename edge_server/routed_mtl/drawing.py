"""Which tasks and which samples a step takes, from the run's own stream."""

from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.losses import Batch, Group, group_tasks
from edge_server.routed_mtl.samples import Samples, inputs_of, skipped
from edge_server.routed_mtl.streams import torch_stream
from edge_server.routed_mtl.tasks import Tasks


class Choice(NamedTuple):
    """Tasks of a step: their indices [T], None for all in order, and their groups by problem."""

    tasks: Tensor | None
    groups: list[Group]


class Drawer:
    """Draws with replacement: `design.batch` samples of every task, or of `design.tasks_per_step` tasks drawn alike."""

    def __init__(self, tasks: Tasks, design: Design, samples: Samples) -> None:
        self._tasks, self._design, self.samples = tasks, design, samples
        self.generator = torch_stream(design.seed, "batches")
        self._supervised = [i for _, members in tasks.groups for i in members if tasks[i].problem.kind == "supervised"]
        self._label_row = {task: row for row, task in enumerate(sorted(self._supervised))}
        self._all = Choice(None, group_tasks(tasks, range(len(tasks)), design.device))

    def choose(self) -> Choice:
        """All tasks, or a uniform draw without replacement, in task order."""
        wanted = self._design.tasks_per_step
        if wanted is None or wanted >= len(self._tasks):
            return self._all
        chosen = torch.randperm(len(self._tasks), generator=self.generator)[:wanted].sort().values
        groups = group_tasks(self._tasks, chosen.tolist(), self._design.device)
        return Choice(chosen.to(self._design.device), groups)

    def batch(self, chosen: Tensor | None) -> Batch:
        """Samples of the chosen tasks."""
        samples, design = self.samples, self._design
        rows = torch.arange(len(self._tasks)) if chosen is None else chosen.cpu()
        drawn = torch.randint(samples.instances, (len(rows), design.batch), generator=self.generator)
        gains = _gather(samples.gains, rows, drawn)
        presence = (samples.presence if chosen is None else samples.presence[chosen]).unsqueeze(1)
        loads = None if samples.loads is None else _gather(samples.loads, rows, drawn)
        features = inputs_of(gains, loads, presence, design.inputs)
        log_gain = skipped(gains, loads, presence) if design.skip else None
        labels = self._labels(rows.tolist(), drawn)
        return Batch(chosen, presence, gains, labels, features, log_gain)

    def _labels(self, rows: list[int], drawn: Tensor) -> Tensor:
        place = {task: row for row, task in enumerate(rows)}
        wanted = [task for task in self._supervised if task in place]
        label_rows = torch.tensor([self._label_row[task] for task in wanted], dtype=torch.int64)
        return _gather(self.samples.labels, label_rows, drawn[[place[task] for task in wanted]])


def _gather(stored: Tensor, rows: Tensor, drawn: Tensor) -> Tensor:
    """stored [K, D, N], rows [T], drawn [T, B] to [T, B, N]."""
    flat = (rows.unsqueeze(1) * stored.shape[1] + drawn).flatten().to(stored.device)
    return stored.flatten(0, 1).index_select(0, flat).view(*drawn.shape, stored.shape[2])
