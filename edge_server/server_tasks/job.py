"""What a server task's process is told to do."""

import json
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from edge_server.power_config import RoutedMtl


class Pace(NamedTuple):
    """Policies after every `every` steps exactly, up to step `last`, each of which somebody waits for."""

    every: int
    last: int

    def holds(self, step: int) -> bool:
        """Whether a policy is due after so many steps."""
        return step % self.every == 0 and step <= self.last


@dataclass(frozen=True)
class Job:
    """Train `task` with this seed on so many threads, from the start or from `state` (a `state.safetensors`).

    pace: None publishes when time allows, at the lowest priority.
    """

    task: RoutedMtl
    seed: int
    threads: int
    state: bytes | None = None
    pace: Pace | None = None

    def write(self, stream: BinaryIO) -> None:
        """One line of JSON, then the state's bytes. Raises BrokenPipeError when nobody reads."""
        state = self.state or b""
        content = {"task": self.task.model_dump(mode="json"), "seed": self.seed, "threads": self.threads}
        content["pace"] = self.pace
        stream.write(json.dumps({**content, "state": len(state)}).encode() + b"\n" + state)
        stream.flush()


def read_job(content: dict[str, Any], state: bytes) -> Job:
    """The job of such a line, already parsed, and the bytes that followed it."""
    pace = content["pace"] and Pace(*content["pace"])
    return Job(RoutedMtl.model_validate(content["task"]), content["seed"], content["threads"], state or None, pace)
