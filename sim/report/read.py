"""Run directories as arrays: what the report knows, and nothing else (contract.md, "Run directory")."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.report.columns import Rounds, Slots, read_rounds, read_slots
from sim.report.files import read_table
from sim.report.records import Json, read_events, read_json, read_scenario, read_text

_SEED = re.compile(r"seed_\d+")
"""A sweep's folder of one run; the one above it says what is swept."""


@dataclass(frozen=True)
class Run:
    """One run directory. `label` tells it from the others on the page; `slots` is None where not recorded."""

    folder: Path
    label: str
    manifest: Json
    scenario: Json
    scenario_text: str
    summary: Json
    rounds: Rounds
    slots: Slots | None
    events: tuple[Json, ...]
    notes: tuple[str, ...]
    compared: bool = False

    @property
    def aggregator(self) -> Json:
        """The scenario's `edge.aggregator`; empty where the scenario does not say."""
        found = (self.scenario.get("edge") or {}).get("aggregator")
        return found if isinstance(found, dict) else {}


def read_runs(dirs: Sequence[Path]) -> list[Run]:
    """The runs in `dirs`, each followed by the runs compared with it (its sub-folders), labelled apart.

    Raises UnreadableRun, one line, where a folder is not a run or a file of it is damaged.
    """
    runs: dict[Path, Run] = {}
    for folder in map(Path, dirs):
        base = read_run(folder)
        runs.setdefault(folder.resolve(), base)
        for inner in _compared(base):
            runs[inner.resolve()] = replace(read_run(inner), compared=True)
    return labelled(list(runs.values()))


def read_run(folder: Path) -> Run:
    """One run, finished or not. Raises UnreadableRun."""
    manifest = read_json(folder / "manifest.json")
    text = read_text(folder / "scenario.yaml")
    live = manifest.get("status") == "running"
    rounds, cut_rounds = read_table(folder, "rounds", live=live, needed=not live)
    slots, cut_slots = read_table(folder, "slots", live=live, needed=False)
    events, cut_events = read_events(folder / "events.jsonl")
    cut = {"the rounds journal": cut_rounds, "the slots journal": cut_slots, "events.jsonl": cut_events}
    return Run(
        folder=folder,
        label=str(manifest.get("name", folder.name)),
        manifest=manifest,
        scenario=read_scenario(folder / "scenario.yaml", text),
        scenario_text=text,
        summary=read_json(folder / "summary.json") if (folder / "summary.json").exists() else {},
        rounds=(found := read_rounds(rounds, folder)),
        slots=read_slots(slots, found.users, folder) if slots is not None else None,
        events=events,
        notes=tuple(f"{what} ends in an unfinished record, left out" for what, is_cut in cut.items() if is_cut),
    )


def _compared(base: Run) -> list[Path]:
    """Sub-folders that are runs: in the scenario's order first, then by name."""
    inner = sorted(path.parent for path in base.folder.glob("*/manifest.json"))
    entries = base.scenario.get("compare") or []
    order = [entry.get("name") for entry in entries if isinstance(entry, dict)]
    return sorted(inner, key=lambda path: order.index(path.name) if path.name in order else len(order))


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The shortest labels that tell the runs apart."""
    choices = [(*_label_choices(run), str(run.folder.resolve())) for run in runs]
    return [replace(run, label=label) for run, label in zip(runs, telling_apart(choices), strict=True)]


def telling_apart(choices: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Each run's label: its n-th choice, for the first n at which all differ; the last where none does."""
    labels: tuple[str, ...] = ()
    for labels in zip(*choices, strict=True):
        if len(set(labels)) == len(labels):
            break
    return labels


def _label_choices(run: Run) -> tuple[str, ...]:
    folder = run.folder.resolve()
    name = str(run.manifest.get("name", folder.name))
    if run.compared:
        return (*[folder.name] * 4, f"{folder.parent.name}/{folder.name}")
    swept = _SEED.fullmatch(folder.name) is not None
    kind, place = str(run.aggregator.get("kind", name)), folder.parent.name if swept else folder.name
    return kind if swept else name, name, kind, _by_last_parts(place) if swept else place, place


def _by_last_parts(point: str) -> str:
    """`edge.aggregator.alpha=1,slots=8` as alpha=1,slots=8, where the last parts of its keys differ."""
    parts = [value.partition("=") for value in point.split(",")]
    ends = [key.rpartition(".")[2] for key, *_ in parts]
    if len({*ends}) < len(ends) or not all(equals for _, equals, _ in parts):
        return point
    return ",".join(f"{end}={value}" for end, (*_, value) in zip(ends, parts, strict=True))
