"""The table at the top of the page, and the sentences over it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sim.report.tables import Row
from sim.report.words import DASH, count, listed, number, seconds, size


@dataclass(frozen=True)
class Line:
    """One line of a table: a name, a cell per run, and the columns that hold its best value."""

    name: str
    cells: list[str]
    best: frozenset[int] = field(default_factory=frozenset)


_LEAKS = {
    "norm_auc": "label leak by gradient norm, AUC",
    "direction_auc": "label leak by gradient direction, AUC",
    "label_error": "error of labels solved for",
    "distance_correlation": "distance correlation of inputs and features",
}


_NOT_RANKED = "Fairness is not one measure here, as alpha, u_min, u_max or the users differ: it is not ranked."


def summary_lines(rows: Sequence[Row], ranked: Collection[int], *, one_measure: bool) -> list[Line]:
    """One line per measure; lines that no run fills are left out.

    ranked: the rows among which the highest is marked. one_measure: fairness is the same number in all of them.
    """
    scored = ranked if one_measure else ()
    lines = [
        _higher("mean fairness", rows, lambda row: row.fairness, scored),
        _higher("mean validation fairness", rows, lambda row: row.val_fairness, scored),
        _higher("mean utility per user", rows, lambda row: row.mean_utility, ranked),
        _higher("worst user's utility", rows, lambda row: row.worst_utility, ranked),
        Line("worst user", [row.worst_user or DASH for row in rows]),
        _higher("Jain's index", rows, lambda row: row.jain, ranked),
        Line("price of fairness", [number(row.price_of_fairness) for row in rows]),
        Line("mean sum of weights", [number(row.sum_w) for row in rows]),
        Line("mean regret", [number(row.regret) for row in rows]),
        Line("slots with a capped gradient", [count(row.capped) for row in rows]),
        Line("bytes up per user", [_per_user(row, "up") for row in rows]),
        Line("bytes down per user", [_per_user(row, "down") for row in rows]),
        Line("virtual time", [seconds(row.virtual_seconds) for row in rows]),
        Line("slots missed at the deadline", [count(row.missed) for row in rows]),
        *(Line(name, [_over_users(row, measure) for row in rows]) for measure, name in _LEAKS.items()),
        Line("wall time", [seconds(row.wall_seconds) for row in rows]),
        Line("slots per second", [number(row.slots_per_second) for row in rows]),
        Line("digest", [(row.digest or DASH)[:12] for row in rows]),
    ]
    return [line for line in lines if any(cell != DASH for cell in line.cells)]


def findings(rows: Sequence[Row], *, one_measure: bool) -> list[str]:
    """Sentences a reader may quote of single runs: who is fairest, who serves the worst user best."""
    if len(rows) < 2:
        return []
    fairest = [
        _lead("mean fairness", rows, lambda row: row.fairness),
        _lead("mean validation fairness", rows, lambda row: row.val_fairness),
    ]
    said = [
        *(fairest if one_measure else [_NOT_RANKED]),
        _lead("utility of the worst user", rows, lambda row: row.worst_utility),
        _lead("Jain's index", rows, lambda row: row.jain),
    ]
    return [sentence for sentence in said if sentence]


def cautions(rows: Sequence[Row]) -> list[str]:
    """What differs besides the method, in sentences."""
    rows = [row for row in rows if row.rounds]
    said = [_unequal_steps(rows), _unequal_scenarios(rows)] if len(rows) > 1 else []
    return [sentence for sentence in said if sentence]


def _higher(name: str, rows: Sequence[Row], of: Callable[[Row], float | None], ranked: Collection[int]) -> Line:
    """A line whose highest value among those ranked is marked, if there are several and they differ."""
    cells = [number(of(row)) for row in rows]
    known = [value for index in ranked if (value := of(rows[index])) is not None]
    if len(known) < 2 or len({cells[index] for index in ranked}) == 1:
        return Line(name, cells)
    top = number(max(known))
    return Line(name, cells, frozenset(index for index in ranked if cells[index] == top))


def _per_user(row: Row, way: str) -> str:
    """The users' bytes."""
    return _range([size(count) for count in sorted(each[way] for each in row.bytes.values())])


def _over_users(row: Row, measure: str) -> str:
    """What the users leak by this measure."""
    known = [value for value in row.leaks.get(measure, {}).values() if value is not None]
    return _range([number(value) for value in sorted(known)])


def _range(cells: Sequence[str]) -> str:
    """From the first to the last of them; one if they agree."""
    if not cells:
        return DASH
    return cells[0] if cells[0] == cells[-1] else f"{cells[0]} to {cells[-1]}"


def _lead(what: str, rows: Sequence[Row], of: Callable[[Row], float | None]) -> str | None:
    known = sorted(((value, row.run) for row in rows if (value := of(row)) is not None), reverse=True)
    if len(known) < 2:
        return None
    (first, leader), (second, follower) = known[:2]
    if number(first) == number(second):
        return f"Highest {what}: {leader} and {follower}, both {number(first)}."
    return f"Highest {what}: {leader} with {number(first)}, then {follower} with {number(second)}."


def _unequal_steps(rows: Sequence[Row]) -> str | None:
    """Weights are step sizes: unlike sums are a difference of their own."""
    sums = [row.sum_w for row in rows if row.sum_w is not None]
    if len(sums) < 2 or max(sums) <= 1.02 * min(sums):
        return None
    return (
        f"The mean sums of weights differ, {number(min(sums))} to {number(max(sums))}: "
        "part of any difference is the size of the step, not its balance."
    )


def _unequal_scenarios(rows: Sequence[Row]) -> str | None:
    said = [(row.seed, row.rounds, row.slots, row.users) for row in rows]
    names = zip(("seed", "rounds", "slots", "users"), zip(*said, strict=True), strict=True)
    differ = [name for name, values in names if len({*values}) > 1]
    return f"The runs differ in {listed(differ)}: compare them with care." if differ else None
