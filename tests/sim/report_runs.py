"""Synthetic run directories for the report's tests: the files of contract.md, filled from a seed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

SHARED = ("fairness", "slot_fairness", "val_fairness", "sum_w", "oracle_fairness", "regret", "bound", "residual")


def write_run(
    folder: Path,
    *,
    name: str = "tiny",
    users: tuple[str, ...] = ("clean", "attacked"),
    rounds: int = 6,
    slots: int = 4,
    seed: int = 0,
    gain: float = 1.0,
    regret: bool = False,
    validation: bool = True,
    aggregator: dict | None = None,
    compare: tuple[str, ...] = (),
    events: tuple[dict, ...] = (),
) -> tuple[dict, dict]:
    """Writes a finished run; returns its rounds and slots columns."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, len(users)])
    rounds_columns, slots_columns = _columns(rng, users, rounds, slots, gain, regret=regret, validation=validation)
    scenario = {
        "schema": 1, "name": name, "seed": seed, "transport": "memory", "rounds": rounds, "slots": slots,
        "users": [{"name": user} for user in users],
        "edge": {
            "encoder": {"kind": "linear"},
            "aggregator": aggregator or {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3},
            "primal": {"step": 0.1, "domain": "none"},
            "meta": {"rule": "running_mean", "target": "last"},
        },
        "compare": [{"name": other} for other in compare],
    }  # fmt: skip
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario, sort_keys=False))
    write_json(folder / "manifest.json", manifest(name, seed))
    pq.write_table(pa.table(rounds_columns), folder / "rounds.parquet")
    pq.write_table(pa.table(slots_columns), folder / "slots.parquet")
    write_json(folder / "summary.json", summary(rounds_columns, slots_columns, users))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return rounds_columns, slots_columns


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def manifest(name: str, seed: int = 0, status: str = "done") -> dict:
    return {
        "schema": 1, "name": name, "equiran": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "ray": "2.60.0",
        "grpc": "1.85.1", "numpy": "2.3.0", "seed": seed, "transport": "memory", "threads": {"edge": 1, "user": 1},
        "device": "cpu", "started": "2026-11-21T20:00:00Z", "finished": "2026-11-21T20:01:00Z", "status": status,
        "digest": "ab12" * 16,
    }  # fmt: skip


def summary(rounds: dict, slots: dict, users: tuple[str, ...]) -> dict:
    if not len(rounds["round"]):
        return {"fairness_mean": None, "utility_mean": {}, "bytes": {}, "wall_seconds": 0.5, "digest": "ab12" * 16}
    names, rows = np.array(rounds["user"]), np.array(slots["user"])
    utility = {user: float(np.mean(rounds["mean_utility"][names == user])) for user in users}
    u = np.array(list(utility.values()))
    return {
        "fairness_mean": float(np.mean(rounds["fairness"])),
        "regret_mean": None,
        "utility_mean": utility,
        "jain": float(u.sum() ** 2 / (len(u) * (u**2).sum())),
        "worst_utility": float(u.min()),
        "price_of_fairness": None,
        "bytes": {
            user: {way: int(slots[f"bytes_{way}"][rows == user].sum()) for way in ("up", "down")} for user in users
        },
        "wall_seconds": 12.5,
        "virtual_seconds": None,
        "slots_per_second": 416.64,
        "digest": "ab12" * 16,
    }


def _columns(rng, users, rounds, slots, gain, *, regret, validation) -> tuple[dict, dict]:
    count, t = len(users), np.arange(rounds)[:, None, None]
    i, k = np.arange(slots)[None, :, None], np.arange(count)[None, None, :]
    hostile = 0.9 * ((i // max(1, int(slots**0.5))) % 2) * (k == count - 1)
    noise = 0.15 * rng.standard_normal((rounds, slots, count))
    ease = rng.uniform(0.8, 1.2, count)
    loss = ease * (0.6 + 1.7 * np.exp(-gain * (t + 1) / 40 - i / (2 * slots))) + hostile + noise
    utility = 3.3 - loss
    weight = np.clip(1 / np.clip(utility, 1, 3.3), 0.3, 1.0)
    per_round = {
        "mean_utility": utility.mean(1), "mean_loss": loss.mean(1), "w_mean": weight.mean(1),
        "val_loss": loss.mean(1) * 0.9, "val_accuracy": np.clip(1 - loss.mean(1) / 2.6, 0, 1),
    }  # fmt: skip
    shared = {
        "fairness": np.log(np.clip(per_round["mean_utility"], 0.3, None)).sum(1),
        "slot_fairness": np.log(np.clip(utility, 0.3, None)).sum(2).mean(1),
        "val_fairness": np.log(np.clip(3.3 - per_round["val_loss"], 0.3, None)).sum(1),
        "sum_w": weight.sum(2).mean(1),
    }
    if regret:
        shared |= {
            "regret": 0.05 / np.sqrt(np.arange(1, rounds + 1)) + 0.01 * rng.standard_normal(rounds),
            "bound": 6 / np.sqrt(np.arange(1, rounds + 1)),
        }
    if not validation:
        del per_round["val_loss"], per_round["val_accuracy"], shared["val_fairness"]
    empty = [None] * (rounds * count)
    columns: dict = {
        "round": pa.array(np.repeat(np.arange(rounds), count), pa.int32()),
        "user": pa.array(list(users) * rounds).dictionary_encode(),
    }
    columns |= {name: values.ravel() for name, values in per_round.items()}
    columns |= {name: np.repeat(values, count) for name, values in shared.items()}
    columns |= {name: pa.array(empty, pa.float64()) for name in ("val_loss", "val_accuracy") if name not in columns}
    columns |= {name: pa.array(empty, pa.float64()) for name in SHARED if name not in columns}
    size = rounds * slots * count
    return columns, {
        "round": pa.array(np.repeat(np.arange(rounds), slots * count), pa.int32()),
        "slot": pa.array(np.tile(np.repeat(np.arange(slots), count), rounds), pa.int32()),
        "user": pa.array(list(users) * (rounds * slots)),
        "loss": loss.ravel(), "utility": utility.ravel(),
        "out_of_range": ((utility < 1) | (utility > 3.3)).astype(np.float64).ravel(),
        "weight": weight.ravel(),
        "bytes_up": np.tile(144_200 + 10 * np.arange(count), rounds * slots),
        "bytes_down": np.full(size, 5_300), "t_slot": np.full(size, 0.004), "t_user": np.full(size, 0.002),
        "t_edge": np.full(size, 0.001), "status": pa.array(["applied"] * size),
    }  # fmt: skip
