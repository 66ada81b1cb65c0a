"""Whole runs for tests: a scenario as a dict, run in this process, read back from its directory."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from sim.caller import Result, Watcher
from sim.local import Hooks
from sim.runner import run as run_loaded
from sim.scenario import Loaded, load

SCENARIOS = Path(__file__).parent.parent / "scenarios"
GOLDEN = SCENARIOS / "owo_fmtl" / "golden.yaml"
Tree = dict[str, Any]

HOOKS = Hooks(lambda _record: None, lambda _event: None, lambda: False)
"""Hooks of a run that nobody watches."""


def kernel(many: int = 2, rounds: int = 2, slots: int = 4, **changes: Any) -> Tree:
    """The kernel task: frozen everything at the users, so a slot takes well under a millisecond."""
    tree = {
        "schema": 1, "name": "kernel", "seed": 3, "transport": "memory", "rounds": rounds, "slots": slots,
        "users": {"count": many, "template": {"task": {"kind": "kernel_regression"}, "head": {"kind": "identity"}}},
        "edge": {
            "encoder": {"kind": "linear"},
            "aggregator": {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 1.0, "u_max": 4.0},
            "primal": {"step": 0.05, "domain": {"box": 1.0}},
            "meta": {"rule": "running_mean", "target": "last", "domain": {"box": 1.0}},
        },
    }  # fmt: skip
    return {**tree, **changes}


def digits(many: int = 3, rounds: int = 2, slots: int = 4, batch: int = 5, **changes: Any) -> Tree:
    """Rainbow over the bundled digits: trainable fronts, heads of their own, the second user hostile in odd blocks."""
    front = {"kind": "conv_pool", "channels": 4, "trainable": True}
    people: list[Tree] = [
        {
            "name": f"u{k}",
            "task": {"kind": "rainbow", "digits": "bundled", "batch": batch, "validation": 10},
            "front": front,
            "head": {"kind": "linear", "step": 0.1},
        }
        for k in range(many)
    ]
    people[1]["adversary"] = {"kind": "ping_pong", "labels": "nine_minus", "block": "sqrt", "hostile": "odd"}
    tree = {
        "schema": 1, "name": "digits", "seed": 7, "transport": "memory", "rounds": rounds, "slots": slots,
        "users": people,
        "edge": {
            "encoder": {"kind": "lenet", "width": 16},
            "aggregator": {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3},
            "primal": {"step": 0.1},
            "meta": {"rule": "continue", "target": "last"},
        },
    }  # fmt: skip
    return {**tree, **changes}


def arrays(folder: Path, x: np.ndarray, y: np.ndarray, loss: str = "squared", **changes: Any) -> Tree:
    """x [T, m, K, B, ...], y [T, m, K, B] as one file per user, under a linear encoder and identity heads."""
    rounds, slots, users = x.shape[:3]
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(users):
        np.savez(folder / f"u{k}.npz", x=x[:, :, k], y=y[:, :, k])
    people = [
        {
            "name": f"u{k}",
            "task": {"kind": "arrays", "path": str(folder / f"u{k}.npz"), "loss": loss},
            "head": {"kind": "identity"},
        }
        for k in range(users)
    ]
    return kernel(rounds=rounds, slots=slots, **{"name": "arrays", "users": people, **changes})


def changed(tree: Tree, **dotted: Any) -> Tree:
    """A copy of `tree`; a__b__c=v sets a.b.c, numbers index lists."""
    tree = copy.deepcopy(tree)
    for path, value in dotted.items():
        *parents, last = path.split("__")
        at: Any = tree
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[last] = value
    return tree


def plain_yaml(text: str) -> Tree:
    """A scenario's text as a dict; numbers such as 1e-3 must be written with a point for this."""
    tree: Tree = yaml.safe_load(text)
    return tree


def write(folder: Path, tree: Tree, name: str = "scenario.yaml") -> Path:
    """The tree as a YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    without_aliases = json.loads(json.dumps(tree))
    file.write_text(yaml.safe_dump(without_aliases, sort_keys=False), encoding="utf-8")
    return file


def loaded(folder: Path, tree: Tree, transport: str | None = None) -> Loaded:
    return load(write(folder / "in", tree), transport=transport)


def run(folder: Path, tree: Tree, transport: str | None = None, watcher: Watcher | None = None) -> Result:
    """Run `tree`; its directory is `folder`/`transport`."""
    out = folder / (transport or "out")
    return run_loaded(loaded(folder, tree, transport), out, None, watcher or Watcher())


def slots(folder: Path) -> dict[str, np.ndarray]:
    """slots.parquet as arrays, NaN for null."""
    return _columns(folder / "slots.parquet")


def rounds(folder: Path) -> dict[str, np.ndarray]:
    """rounds.parquet as arrays, NaN for null."""
    return _columns(folder / "rounds.parquet")


def events(folder: Path, kind: str | None = None) -> list[Tree]:
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if kind in (None, event["event"])]


def read_json(path: Path) -> Tree:
    content: Tree = json.loads(path.read_text(encoding="utf-8"))
    return content


def _columns(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
