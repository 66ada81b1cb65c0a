"""Small power scenarios for tests, written to files and given to the command."""

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.power_scenario import LoadedPower, load_power

BEST = runs.SCENARIOS / "power" / "best.yaml"
SMALL: dict[str, Any] = {
    "kind": "routed_mtl",
    "tasks": [{"problem": "p3", "users": [2, 4]}, {"problem": "p4", "users": [3]}],
    "samples": {"train": 200, "test": 50, "violation": 3000},
    "places": 4, "batch": 8, "stages": [20, 30], "every": 10,
}  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "power.yaml"
    tree = {"schema": 1, "name": "small", "seed": 5, "edge": {"server_tasks": [{**SMALL, **changes}]}}
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def loaded(folder: Path, **changes: Any) -> LoadedPower:
    return load_power(written(folder, **changes))


def command(file: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["train-power", str(file), "--out", str(out), *options])
