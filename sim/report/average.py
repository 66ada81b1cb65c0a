"""Runs of one scenario over several seeds as one: every number is its mean over the seeds for which it is known."""

from collections.abc import Sequence
from dataclasses import fields, replace
from statistics import fmean
from typing import Any

import numpy as np

from sim.report.columns import Floats, Rounds, Slots
from sim.report.read import Run
from sim.report.records import Json


def averaged(runs: Sequence[Run], label: str) -> Run:
    """What a page draws and tells of finished runs that differ in their seeds alone; one run is told as it is."""
    first = runs[0]
    if len(runs) == 1:
        return replace(first, label=label)
    slots = [run.slots for run in runs if run.slots is not None]
    return replace(
        first,
        label=label,
        manifest=_manifest([run.manifest for run in runs]),
        summary=_mean([run.summary for run in runs]),
        rounds=_rounds([run.rounds for run in runs]),
        slots=_slots(slots) if len(slots) == len(runs) else None,
        events=tuple({"seed": run.manifest.get("seed"), **event} for run in runs for event in run.events),
        notes=tuple(f"seed {run.manifest.get('seed')}: {note}" for run in runs for note in run.notes),
    )


def _mean(values: Sequence[Any]) -> Any:
    """Of numbers their mean, of mappings that of each key; anything else as it is where all agree, else None."""
    if all(isinstance(value, dict) for value in values):
        return {key: _mean([value.get(key) for value in values]) for key in values[0]}
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return fmean(known)
    return values[0] if all(value == values[0] for value in values) else None


def _manifest(manifests: Sequence[Json]) -> Json:
    """What all say alike, from the first start to the last end."""
    shared = {key: value for key, value in manifests[0].items() if all(one.get(key) == value for one in manifests)}
    starts = [str(one["started"]) for one in manifests if one.get("started")]
    ends = [str(one["finished"]) for one in manifests if one.get("finished")]
    return {**shared, "started": min(starts, default=None), "finished": max(ends, default=None)}


def _rounds(found: Sequence[Rounds]) -> Rounds:
    names = [name for name in found[0].columns if all(name in one.columns for one in found)]
    return replace(found[0], columns={name: _over_seeds([one.columns[name] for one in found]) for name in names})


def _slots(found: Sequence[Slots]) -> Slots:
    statuses = dict.fromkeys(name for one in found for name in one.statuses)
    nobody = np.zeros(len(next(iter(found[0].statuses.values()), ())))
    means = {name: _over_seeds([one.statuses.get(name, nobody) for one in found]) for name in statuses}
    others: dict[str, Any] = {}
    for name in (field.name for field in fields(Slots) if field.name != "statuses"):
        columns = [getattr(one, name) for one in found]
        others[name] = None if any(column is None for column in columns) else _over_seeds(columns)
    return Slots(statuses=means, **others)


def _over_seeds(columns: Sequence[Any]) -> Floats:
    """Arrays of one shape to their mean, without what is not finite."""
    stacked = np.stack([np.asarray(column, np.float64) for column in columns])
    known = np.isfinite(stacked)
    total, count = np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
