"""The users of a run as the page shows them: on the map, in bars, in a table."""

from typing import Any, NamedTuple

import numpy as np

from sim.live.plain import decibels, known, plain
from sim.live.watched import Tables, Watched
from sim.report.columns import Floats, Ints
from sim.report.words import number, size

MANY = 200
"""Users up to which each is on the page; above, the lowest and the highest mean utilities."""


class Column(NamedTuple):
    """Of the table. cells: of every user; none where nothing is known of any."""

    key: str
    label: str
    cells: list[str]


def planned(run: Watched) -> int:
    """How many users its scenario has."""
    users = run.small.scenario.get("users") or ()
    return int(users["count"]) if isinstance(users, dict) else len(users)


def mean_utility(run: Watched) -> Floats:
    """[K]: of the run so far, as summary.json has it."""
    assert run.tables is not None
    told = run.small.summary.get("utility_mean")
    if isinstance(told, dict) and list(told) == list(run.tables.users):
        return np.array([*told.values()], np.float64)
    return run.tables.slots.mean_utility if run.by_slot else run.tables.rounds.mean_utility


def shown(run: Watched) -> list[int]:
    """Which users are on the page, in scenario order."""
    utility = mean_utility(run)
    if len(utility) <= MANY:
        return [*range(len(utility))]
    ranked = np.argsort(np.where(np.isfinite(utility), utility, np.inf), kind="stable")
    return sorted([*ranked[: MANY // 2].tolist(), *ranked[-MANY // 2 :].tolist()])


def users(run: Watched) -> dict[str, Any]:
    """By user: numbers for the map and the bars, and cells for the table."""
    tables = run.tables
    if tables is None:
        return {"names": [], "many": planned(run), "numbers": {}, "columns": []}
    there = shown(run)
    columns = [column for column in _columns(run, tables) if column.cells]
    return {
        "names": [tables.users[k] for k in there],
        "many": len(tables.users),
        "numbers": {name: plain(values[there]) for name, values in _numbers(run, tables).items()},
        "columns": [[column.key, column.label, [column.cells[k] for k in there]] for column in columns],
    }


def _numbers(run: Watched, tables: Tables) -> dict[str, Floats]:
    newest = tables.rounds.newest
    return {
        "utility": newest["mean_utility"],
        "weight": newest["w_mean"],
        "gain_db": decibels(tables.air.gain),
        "power": newest["power_mean"],
        "late": newest["late_share"],
        "mean_utility": mean_utility(run),
    }


def _columns(run: Watched, tables: Tables) -> list[Column]:
    newest, slots = tables.rounds.newest, tables.slots
    nothing = np.zeros(len(tables.users), np.int64)
    late = tables.air.missed if run.small.scenario.get("radio") else slots.statuses.get("late", nothing)
    return [
        _numbers_of("mean_utility", "mean utility", mean_utility(run)),
        _numbers_of("utility", "utility, last round", newest["mean_utility"]),
        _numbers_of("weight", "weight |w|, last round", newest["w_mean"]),
        _numbers_of("loss", "loss, last round", newest["mean_loss"]),
        _numbers_of("accuracy", "validation accuracy", newest["val_accuracy"]),
        _numbers_of("gain", "link |h|\u00b2, dB", decibels(tables.air.gain)),
        _numbers_of("power", "downlink power, W", newest["power_mean"]),
        _numbers_of("air", "s on the air per slot", newest["air_mean"]),
        Column("up", "bytes up", [size(int(count)) for count in slots.bytes_up if slots.slots]),
        Column("down", "bytes down", [size(int(count)) for count in slots.bytes_down if slots.slots]),
        _counts_of("late", "late", late),
        _counts_of("rejected", "rejected", slots.statuses.get("rejected", nothing)),
        _counts_of("absent", "absent", slots.statuses.get("absent", nothing)),
    ]


def _numbers_of(key: str, label: str, values: Floats) -> Column:
    return Column(key, label, [number(known(value)) for value in values] if np.isfinite(values).any() else [])


def _counts_of(key: str, label: str, counts: Ints) -> Column:
    return Column(key, label, [f"{count:,}" for count in counts.tolist()] if counts.any() else [])
