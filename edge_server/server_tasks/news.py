"""What a server task has to tell the edge's owner, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_server.routed_mtl.progress import Progress

_STATE = "state"
"""Beside the names of files, all of which have an ending."""
TaskStatus = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended: `step` of `steps` taken in `seconds` of training.

    files: by name, among `state.safetensors` (a trainer continues from it), `policy.safetensors` and `policy.json`
    (the last policy). bdnn_parameters: None when it failed.
    """

    status: TaskStatus
    step: int
    steps: int
    seconds: float
    files: dict[str, bytes]
    bdnn_parameters: int | None = None


@dataclass(frozen=True)
class TaskState:
    """What a task goes on from, a `state.safetensors`, and the seconds of training behind it."""

    data: bytes
    seconds: float


@dataclass(frozen=True)
class TaskNews:
    """Of one task since it was last asked: its progress, how it ended if it did, and a newer state to go on from."""

    kind: str
    progress: tuple[Progress, ...] = ()
    end: TaskEnd | None = None
    state: TaskState | None = None

    def to_dict(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Plain values for JSON, and the files."""
        content = asdict(self)
        files = content["end"].pop("files") if self.end else {}
        return content, files | ({_STATE: content["state"].pop("data")} if self.state else {})

    @classmethod
    def from_dict(cls, content: dict[str, Any], files: dict[str, bytes]) -> "TaskNews":
        """What `to_dict` gave."""
        files = dict(files)
        state = content["state"] and TaskState(files.pop(_STATE), **content["state"])
        end = content["end"] and TaskEnd(**content["end"], files=files)
        return cls(content["kind"], tuple(Progress.from_dict(row) for row in content["progress"]), end, state)
