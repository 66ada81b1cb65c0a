"""A published power policy: a trained network as a function from gains to power. It does not need the trainer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_server.routed_mtl.folded import Folded, FoldedSet, FoldedTrunk, Function
from edge_server.routed_mtl.heads import Head

FORMAT = "equiran.power_policy"
VERSION = 1
CHUNK = 1024
"""Rows at a time: what a layer writes stays in the cache."""

Array = NDArray[np.float32]

_ARCHITECTURES: dict[str, type[FoldedTrunk] | type[FoldedSet]] = {
    "trunk": FoldedTrunk,
    "deep_set": FoldedSet,
}
_FEATURES: dict[str, Callable[[Array], Array]] = {
    "amplitude": np.sqrt,
    "power": lambda gains: gains,
    "log_gain": np.log,
}


class PolicyError(ValueError):
    """A policy that cannot be used so: unknown task, bad gains, or a file that is not one of ours."""


@dataclass(frozen=True)
class PolicyTask:
    """One task: its problem's name, its N, its output; logits += skip ln |h|^2 + shift (the calibration).

    rho: 1 / (N0 W) in 1/W of a problem that has one. seen: the least and the largest |h|^2 of its training samples.
    A policy published without them has None and says nothing of its scale. payload_ratio: of its training samples, the
    largest payload over the smallest, at most. Where payloads count, the skip is of ln(|h|^2 / L).
    """

    problem: str
    users: int
    head: Head
    skip: float = 0.0
    shift: float = 0.0
    rho: float | None = None
    seen: tuple[float, float] | None = None
    payload_ratio: float = 1.0


class Policy:
    """A trained network as a function. `tasks` are in the order of the network's; `inputs` as in `Design`.

    `payloads`: whether the network is told the users' payloads.
    """

    def __init__(self, network: Folded, tasks: Sequence[PolicyTask], inputs: str) -> None:
        self.network, self.tasks, self.inputs = network, tuple(tasks), inputs
        self.payloads, self._features = network.payloads, _FEATURES[inputs]
        served = [(task.problem, task.users) for task in self.tasks]
        if len(set(served)) < len(served):
            raise PolicyError("power policy: two tasks share a problem's name and its N; publish them apart")
        self._ready: dict[tuple[str, int], tuple[Function, PolicyTask]] = {}

    def __call__(self, problem: str, gains: ArrayLike, bits: ArrayLike | None = None) -> Array:
        """Powers in W, float32, of gains |h|^2 > 0: [B, N] or one instance [N]; N is read off the gains.

        bits: payloads L_n > 0 of the same shape, for a network with `payloads`; None: equal ones.

        An N without a task of its own takes the next larger one, with the missing users left out; a deep set takes any.
        Raises PolicyError for an unknown problem, an N above all trained ones, gains that are not positive numbers, and
        payloads that are not, or that the network does not take.
        """
        given = np.asarray(gains, dtype=np.float32)
        x = given[None] if given.ndim == 1 else given
        if (
            x.ndim != 2
            or x.size == 0
            or not (np.minimum.reduce(x, axis=None) > 0 and np.isfinite(np.add.reduce(x, axis=None)))
        ):
            raise PolicyError(_what_is_wrong(given))
        ready = self._ready.get((problem, x.shape[1])) or self._prepare(problem, x.shape[1])
        loads = self._loads(x, bits) if self.payloads or bits is not None else None
        if len(x) <= CHUNK:
            return self._power(x, loads, *ready).reshape(given.shape)
        parts = [slice(row, row + CHUNK) for row in range(0, len(x), CHUNK)]
        return np.concatenate([self._power(x[p], None if loads is None else loads[p], *ready) for p in parts])

    def _loads(self, x: Array, bits: ArrayLike | None) -> Array:
        """ln L_n [B, N] less its mean over the users, as in training."""
        if bits is None:
            return np.zeros_like(x)
        given = np.asarray(bits, dtype=np.float64).reshape(x.shape[0], -1)
        if not self.payloads:
            raise PolicyError("power policy: its network was trained on equal payloads and takes no bits")
        if given.shape != x.shape or not ((given > 0) & np.isfinite(given)).all():
            raise PolicyError(f"power policy: bits must be positive numbers of the gains' shape {list(x.shape)}")
        load = np.log(given)
        return np.asarray(load - load.mean(axis=1, keepdims=True), dtype=np.float32)

    def _power(self, x: Array, loads: Array | None, function: Function, task: PolicyTask) -> Array:
        features = self._features(x)
        logits = function(features if loads is None else np.concatenate([features, loads], axis=1))
        if task.skip:
            logits += task.skip * (np.log(x) if loads is None else np.log(x) - loads)
        if task.shift:
            logits += task.shift
        return task.head(logits)

    def task_for(self, problem: str, users: int) -> int:
        """The number of the task that serves N = `users`: the smallest trained N that is not smaller.

        A deep set takes its largest for an N above all. Raises PolicyError, naming what there is, when none serves.
        """
        mine = sorted((task.users, index) for index, task in enumerate(self.tasks) if task.problem == problem)
        if not mine:
            known = ", ".join(sorted({task.problem for task in self.tasks}))
            raise PolicyError(f"power policy: no policy for problem {problem!r}; it has {known}")
        serving = [index for trained, index in mine if trained >= users]
        if not serving and self.network.any_users:
            serving = [mine[-1][1]]
        if not serving:
            trained_users = ", ".join(str(trained) for trained, _ in mine)
            raise PolicyError(
                f"power policy: no policy for {problem} with N = {users}; trained for N = {trained_users}"
            )
        return serving[0]

    def packed(self) -> tuple[bytes, dict[str, Any]]:
        """Its arrays as safetensors, and everything else as plain values for JSON; `unpacked` reads them."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.network.arrays().items()}
        about = {
            "format": FORMAT,
            "version": VERSION,
            "architecture": self.network.architecture,
            "inputs": self.inputs,
            "tasks": [asdict(task) for task in self.tasks],
        }
        return save(arrays), about

    def save(self, path: Path) -> None:
        """Writes `path`.safetensors (arrays) and `path`.json (everything else)."""
        arrays_file, about_file = _files(path)
        arrays, about = self.packed()
        arrays_file.write_bytes(arrays)
        about_file.write_text(json.dumps(about, indent=1) + "\n")

    def _prepare(self, problem: str, users: int) -> tuple[Function, PolicyTask]:
        index = self.task_for(problem, users)
        ready = self.network.function(index, users), self._with_shift(index, users)
        self._ready[problem, users] = ready
        return ready

    def _with_shift(self, index: int, users: int) -> PolicyTask:
        task = self.tasks[index]
        if not self.network.any_users:
            return task
        own = sorted((other.users, other.shift) for other in self.tasks if other.problem == task.problem)
        shift = float(np.interp(np.log(users), np.log([n for n, _ in own]), [s for _, s in own]))
        return replace(task, users=users, shift=shift)


def load_policy(path: Path) -> Policy:
    """The policy that `save` wrote to `path`. Raises PolicyError, one line, when it is missing or another format."""
    arrays_file, about_file = _files(path)
    try:
        about, arrays = json.loads(about_file.read_text()), arrays_file.read_bytes()
    except (OSError, ValueError) as error:
        raise PolicyError(f"power policy {path}: cannot be read: {error}") from error
    return unpacked(arrays, about, f"power policy {path}")


def unpacked(arrays: bytes, about: Any, name: str = "power policy") -> Policy:
    """The policy that `packed` packed. Raises PolicyError, one line that begins with `name`, for anything else."""
    found = (about.get("format"), about.get("version")) if isinstance(about, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise PolicyError(f"{name}: format {found[0]} {found[1]}, this program reads {FORMAT} {VERSION}")
    try:
        architecture = _ARCHITECTURES[about["architecture"]]
        network = architecture.of(load(arrays))
        policy = Policy(network, [_task(entry) for entry in about["tasks"]], about["inputs"])
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise PolicyError(
            f"{name}: not of an architecture known here ({', '.join(_ARCHITECTURES)}): "
            f"{type(error).__name__}: {error}; publish it again"
        ) from error
    tasks = len(policy.tasks)
    if any(array.shape[0] != tasks for key, array in network.arrays().items() if key.startswith("weights.")):
        raise PolicyError(f"{name}: its weights are not those of its {tasks} tasks; publish it again")
    return policy


def _files(path: Path) -> tuple[Path, Path]:
    return path.parent / f"{path.name}.safetensors", path.parent / f"{path.name}.json"


def _task(entry: dict[str, Any]) -> PolicyTask:
    seen = entry.get("seen")
    return PolicyTask(**{**entry, "head": Head(**entry["head"]), "seen": None if seen is None else tuple(seen)})


def _what_is_wrong(gains: Array) -> str:
    if gains.ndim not in (1, 2) or gains.size == 0:
        return f"power policy: gains must be [B, N] or [N] and not empty, got shape {list(gains.shape)}"
    at = [int(i) for i in np.argwhere(~((gains > 0) & np.isfinite(gains)))[0]]
    return f"power policy: gains |h|^2 must be positive numbers, got {gains[tuple(at)]} at {at}"
