"""`progress.parquet`: how a power trainer's tasks come along."""

import math
from typing import Any

import pyarrow as pa

from edge_server.routed_mtl.progress import Progress, TaskProgress
from sim.columns import record_batch

PROGRESS = pa.schema(
    [
        ("step", pa.int32()),
        ("stage", pa.int8()),
        ("loss", pa.float64()),
        ("task", pa.string()),
        ("task_loss", pa.float64()),
        ("rate", pa.float64()),
        ("violation", pa.float64()),
    ]
)


def progress_batch(progress: Progress) -> pa.RecordBatch:
    """One row per task."""
    columns: dict[str, Any] = {
        "step": [progress.taken] * len(progress.tasks),
        "stage": [progress.stage] * len(progress.tasks),
        "loss": [progress.loss] * len(progress.tasks),
        "task": [task.task for task in progress.tasks],
    }
    columns |= {name: [_numbers(task)[name] for task in progress.tasks] for name in PROGRESS.names[4:]}
    return record_batch(columns, PROGRESS)


def _numbers(task: TaskProgress) -> dict[str, float | None]:
    """What a task's row says; null for what it does not have or has not seen yet."""
    known = None if math.isnan(task.objective) else task.objective
    if task.kind == "supervised":
        return {"task_loss": known, "rate": None, "violation": None}
    return {"task_loss": None, "rate": known, "violation": None if math.isnan(task.violation) else task.violation}
