"""What a server task has to tell the edge's owner, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_server.routed_mtl.progress import Progress

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
class TaskNews:
    """Of one task since it was last asked: its progress, and how it ended if it did."""

    kind: str
    progress: tuple[Progress, ...] = ()
    end: TaskEnd | None = None

    def to_dict(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Plain values for JSON, and the files."""
        content = asdict(self)
        return content, content["end"].pop("files") if self.end else {}

    @classmethod
    def from_dict(cls, content: dict[str, Any], files: dict[str, bytes]) -> "TaskNews":
        """What `to_dict` gave."""
        end = content["end"] and TaskEnd(**content["end"], files=files)
        return cls(content["kind"], tuple(Progress.from_dict(row) for row in content["progress"]), end)
