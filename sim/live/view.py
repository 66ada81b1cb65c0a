"""What the page shows of a run, in words and numbers: all from its records, by the functions of summary and report."""

from datetime import datetime
from typing import Any

import numpy as np

from sim.fairness_measures import jain
from sim.live.owner import Control
from sim.live.people import mean_utility, planned
from sim.live.plain import known
from sim.live.watched import Watched
from sim.report.columns import Floats
from sim.report.words import DASH, number, seconds, size

Tile = dict[str, str]


def head(run: Watched, control: Control) -> dict[str, Any]:
    """Who it is, how far it has come, and what may be asked of it."""
    manifest, scenario, owner = run.small.manifest, run.small.scenario, run.owner
    rule = (scenario.get("edge") or {}).get("aggregator") or {}
    living = run.status in ("running", "paused")
    return {
        "name": str(manifest.get("name") or scenario.get("name") or run.folder.name),
        "folder": str(run.folder),
        "status": "stopping" if living and control.stopping(owner) else run.status,
        "error": manifest.get("error"),
        "facts": _facts(run, str(rule.get("kind", DASH))),
        "rounds": scenario.get("rounds"),
        "done": 0 if run.tables is None else run.tables.rounds.rounds,
        "slots": scenario.get("slots"),
        "by_slot": run.by_slot,
        "u_min": rule.get("u_min"),
        "u_max": rule.get("u_max"),
        "controls": _controls(run),
        "wishes": (run.folder / "pause").exists(),
        "cut": run.cut,
        "training": not scenario.get("users") and bool(scenario),
    }


def _facts(run: Watched, rule: str) -> list[list[str]]:
    manifest = run.small.manifest
    many = len(run.tables.users) if run.tables else planned(run)
    facts = {
        "users": str(many) if many else DASH,
        "aggregator": rule,
        "transport": str(manifest.get("transport", DASH)),
        "seed": str(manifest.get("seed", DASH)),
        "started": _clock(manifest.get("started")),
        "took" if run.status in ("done", "failed", "stopped") else "running for": seconds(run.seconds),
        "digest": str(manifest.get("digest") or DASH)[:12],
    }
    return [[name, told] for name, told in facts.items() if told != DASH]


def _clock(told: Any) -> str:
    return f"{datetime.fromisoformat(told).astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(told, str) else DASH


def _controls(run: Watched) -> str:
    """Empty where the buttons do something; else why they do not."""
    owner = run.owner
    if run.status not in ("running", "paused"):
        return "nothing runs here"
    if owner is not None and not owner.here:
        return f"runs as process {owner.pid} on {owner.host}: ask it there"
    return ""


def tiles(run: Watched) -> list[Tile]:
    """The numbers at the top; those that a run does not have are left out."""
    if run.tables is None:
        return []
    made = [_fairness(run), _worst(run), _regret(run), _rate(run), _bytes(run), _misses(run), _virtual(run)]
    return [tile for tile in made if tile is not None]


def _tile(label: str, value: str, note: str, about: str) -> Tile:
    return {"label": label, "value": value, "note": note, "about": about}


def _fairness(run: Watched) -> Tile | None:
    assert run.tables is not None
    rounds = run.tables.rounds
    mean = _told(run, "fairness_mean", rounds.mean("fairness"))
    if mean is None:
        return None
    about = "Alpha-fair value of the users' mean utilities, mean over rounds"
    return _tile("Fairness", number(mean), f"last round {number(known(rounds.last['fairness']))}", about)


def _worst(run: Watched) -> Tile | None:
    assert run.tables is not None
    utility = mean_utility(run)
    if not np.isfinite(utility).any():
        return None
    k = int(np.nanargmin(utility))
    worst, index = _told(run, "worst_utility", float(utility[k])), _told(run, "jain", _jain(utility))
    about = "Lowest mean utility of a user, and Jain's index of all mean utilities"
    return _tile("Worst utility", number(worst), f"{run.tables.users[k]} · Jain {number(index)}", about)


def _jain(utility: Floats) -> float | None:
    there = utility[np.isfinite(utility)]
    return known(jain(there)) if len(there) else None


def _regret(run: Watched) -> Tile | None:
    assert run.tables is not None
    rounds = run.tables.rounds
    mean = _told(run, "regret_mean", rounds.mean("regret"))
    if mean is None:
        return None
    bound, last = known(rounds.last["bound"]), number(known(rounds.last["regret"]))
    note = f"last round {last}" if bound is None else f"bound {number(bound)}"
    return _tile("Regret", number(mean), note, f"Mean over rounds; of the last one {last}")


def _rate(run: Watched) -> Tile:
    assert run.tables is not None
    at_edge = known(run.tables.slots.slot_seconds)
    note = f"{1000 * at_edge:.3g} ms a slot, median" if at_edge is not None else f"{run.slots:,} slots so far"
    about = "Slots in the records over the time in which they were written; seconds of a slot as the edge measured them"
    return _tile("Slots per second", number(run.slots_per_second), note, about)


def _bytes(run: Watched) -> Tile | None:
    sums = run.tables.slots if run.tables else None
    if sums is None or not sums.slots:
        return None
    up, down = int(sums.bytes_up.sum()), int(sums.bytes_down.sum())
    note = f"{size(up)} up · {size(down)} down"
    return _tile("Bytes", size(up + down), note, "Of all slot messages so far, features to acknowledgement")


def _misses(run: Watched) -> Tile | None:
    tables = run.tables
    if tables is None or not tables.slots.slots:
        return None
    on_air = bool(run.small.scenario.get("radio"))
    missed = int(tables.air.missed.sum()) if on_air else tables.slots.of("late")
    note = f"{tables.slots.of('rejected'):,} rejected · {tables.slots.of('absent'):,} absent"
    return _tile("Missed deadlines", f"{missed:,}", note, "Slots of users that came too late, were refused, or sat out")


def _virtual(run: Watched) -> Tile | None:
    assert run.tables is not None
    rounds = run.tables.rounds
    clock = _told(run, "virtual_seconds", known(rounds.last["virtual_seconds"]))
    if clock is None:
        return None
    watts = rounds.newest["power_mean"]
    note = f"{number(float(np.nansum(watts)))} W down" if np.isfinite(watts).any() else ""
    return _tile("Virtual time", seconds(clock), note, "The radio's clock, and downlink power of all users, last round")


def _told(run: Watched, name: str, otherwise: float | None) -> float | None:
    """What summary.json says once it is there."""
    found = run.small.summary.get(name)
    return float(found) if isinstance(found, int | float) else otherwise
