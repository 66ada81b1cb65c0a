"""What the edge has to tell of a run, as bytes: JSON, and arrays beside it."""

import io
import json
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from safetensors.torch import load, save

from edge_server.record import Event, Leaks, RadioRecord, RoundRecord, Trace
from edge_server.server_tasks.news import TaskNews
from edge_server.state import Flat
from sim.local import At, Outcome


@dataclass
class News:
    """What the edge has to tell since it was last asked; the end of the run is the last of it."""

    rounds: list[RoundRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tasks: list[TaskNews] = field(default_factory=list)
    boundary: tuple[At, Flat] | None = None
    outcome: Outcome | None = None
    failure: str | None = None

    def pack(self) -> bytes:
        """As bytes: a JSON header and the arrays of every round."""
        arrays: dict[str, Any] = {}
        rounds = [_split(record, f"{number}.", arrays) for number, record in enumerate(self.rounds)]
        outcome = self.outcome and {
            "edge": self.outcome.edge.hex(),
            "users": [user.hex() for user in self.outcome.users],
            "stopped": self.outcome.stopped,
        }
        tasks = [_unfiled(news, f"task{number}.", arrays) for number, news in enumerate(self.tasks)]
        told = {"rounds": rounds, "events": self.events, "tasks": tasks}
        at = self.boundary and self.boundary[0]
        header = {**told, "boundary": at, "outcome": outcome, "failure": self.failure}
        if self.boundary:
            arrays["boundary"] = np.frombuffer(save(self.boundary[1]), np.uint8)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> "News":
        """What `pack` packed."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            rounds = [_join(scalars, f"{number}.", arrays) for number, scalars in enumerate(header["rounds"])]
            tasks = [_filed(content, f"task{number}.", arrays) for number, content in enumerate(header["tasks"])]
            at = header["boundary"]
            boundary = None if at is None else (At(*at), load(arrays["boundary"].tobytes()))
        outcome = header["outcome"]
        if outcome:
            users = [bytes.fromhex(user) for user in outcome["users"]]
            outcome = Outcome(bytes.fromhex(outcome["edge"]), users, outcome["stopped"])
        return cls(rounds, header["events"], tasks, boundary, outcome, header["failure"])


def _split(record: RoundRecord | Trace | RadioRecord | Leaks, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The record's numbers; its arrays go into `arrays`, named by their field."""
    scalars: dict[str, Any] = {}
    for name, value in ((f.name, getattr(record, f.name)) for f in fields(record)):
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = value
        elif isinstance(value, Trace | RadioRecord | Leaks):
            scalars[name] = _split(value, f"{prefix}{name}.", arrays)
        else:
            scalars[name] = value
    return scalars


def _join(scalars: dict[str, Any], prefix: str, arrays: Any, kind: type[Any] = RoundRecord) -> Any:
    values = dict(scalars)
    for name in (f.name for f in fields(kind)):
        if prefix + name in arrays:
            values[name] = arrays[prefix + name]
    for name, part in (("trace", Trace), ("radio", RadioRecord), ("leaks", Leaks)):
        if isinstance(values.get(name), dict):
            values[name] = _join(values[name], f"{prefix}{name}.", arrays, part)
    return kind(**values)


def _unfiled(news: TaskNews, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The news without its files, which go into `arrays`."""
    content, files = news.to_dict()
    arrays |= {prefix + name: np.frombuffer(data, np.uint8) for name, data in files.items()}
    return {**content, "files": [*files]}


def _filed(content: dict[str, Any], prefix: str, arrays: Any) -> TaskNews:
    """What `_unfiled` took apart."""
    files = {name: arrays[prefix + name].tobytes() for name in content.pop("files")}
    return TaskNews.from_dict(content, files)
