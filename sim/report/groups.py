"""Runs that differ in their seeds alone belong together; groups with common seeds can be compared seed by seed."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from sim.differences.trees import MISSING, differences
from sim.effective import inline
from sim.identity import ELSEWHERE
from sim.report.average import averaged
from sim.report.read import Run, labelled
from sim.report.tables import Row, row
from sim.report.words import short

_IDLE = (*ELSEWHERE, "seed", "compare", "record")
"""Keys of a scenario in which runs of a group may differ."""
_LONGEST = 100
"""Characters of a value that is told."""


@dataclass(frozen=True)
class Group:
    """runs: finished, each of another seed; or one that is not finished. rows: of each run. mean: all as one."""

    label: str
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    mean: Run

    @property
    def seeds(self) -> list[int | None]:
        """As its runs come."""
        return [row.seed for row in self.rows]

    @property
    def done(self) -> bool:
        """Its numbers are those of whole runs."""
        return _done(self.runs[0])

    @property
    def length(self) -> int:
        """Rounds: means over another number of them are of another time in training."""
        return len(self.runs[0].rounds.numbers)

    @property
    def scoring(self) -> Hashable:
        """What fairness is a number of: groups that differ in it are scored by another measure."""
        rule, users = self.runs[0].aggregator, self.runs[0].rounds.users
        return rule.get("alpha"), rule.get("u_min"), rule.get("u_max"), len(users)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """In order of their first runs. A seed that is there twice begins a group of its own."""
    found: dict[Hashable, list[Run]] = {}
    for run in runs:
        place = 0
        while (key := _key(run, place)) in found and _seed(run) in map(_seed, found[key]):
            place += 1
        found.setdefault(key, []).append(run)
    labels = [run.label for run in labelled([together[0] for together in found.values()])]
    return [_group(together, label) for together, label in zip(found.values(), labels, strict=True)]


def seeds_in_words(seeds: Sequence[int | None]) -> str:
    """seed 3; seeds 3 to 7; seeds 3, 5 and others."""
    known = [str(seed) if seed is not None else "unknown" for seed in seeds]
    if len(known) == 1:
        return f"seed {known[0]}"
    if None not in seeds and [*seeds] == [*range(int(known[0]), int(known[-1]) + 1)]:
        return f"seeds {known[0]} to {known[-1]}"
    return f"seeds {', '.join(known[:12])}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")


def told_apart(group: Group, base: Group) -> list[str]:
    """The values of its scenario that are not the base's, as `--set` would have them."""
    ours, theirs = ({key: one.runs[0].scenario[key] for key in _kept(one.runs[0])} for one in (group, base))
    found = [one for one in differences(theirs, ours) if one.path != "name"]
    return [f"{one.path}={'nothing' if one.b is MISSING else short(inline(one.b), _LONGEST)}" for one in found]


def _group(runs: Sequence[Run], label: str) -> Group:
    return Group(label, tuple(runs), tuple(map(row, runs)), averaged(runs, label))


def _key(run: Run, place: int) -> Hashable:
    """Equal for runs that belong together. place: how many runs of the same seed came before."""
    if not _done(run):
        return run.folder, place
    kept = {key: run.scenario[key] for key in _kept(run)}
    return json.dumps([kept, run.rounds.users, len(run.rounds.numbers)], sort_keys=True, default=str), place


def _kept(run: Run) -> list[str]:
    return [key for key in run.scenario if key not in _IDLE]


def _seed(run: Run) -> int | None:
    seed: int | None = run.manifest.get("seed")
    return seed


def _done(run: Run) -> bool:
    return run.manifest.get("status") == "done"
