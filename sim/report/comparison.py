"""Groups of runs compared: means over seeds, differences from the first group over common seeds, and what they show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sim.report.estimates import Estimate, estimate
from sim.report.groups import Group
from sim.report.tables import Row
from sim.report.words import number, seconds, size

BASE, ONE_SEED, NOT_TOLD_APART = "base", "one seed, no interval", "not told apart"
EQUAL, NO_COMMON_SEED, ANOTHER_MEASURE = "equal", "no common seed", "another measure"
ANOTHER_LENGTH, OF_THE_MACHINE = "another length", "of the machine"


class Measure(NamedTuple):
    """A number of a run. better: where more or less is. scored: by F_alpha, so of another kind at another alpha.

    least, most: what it can be. of_method: it is the method's, and not the machine's.
    """

    key: str
    name: str
    of: Callable[[Row], float | None]
    better: Literal["higher", "lower"] | None
    show: Callable[[float | None], str] = number
    scored: bool = False
    drawn: bool = True
    least: float | None = None
    most: float | None = None
    of_method: bool = True


MEASURES = (
    Measure("fairness_mean", "mean fairness", lambda row: row.fairness, "higher", scored=True),
    Measure("val_fairness_mean", "mean validation fairness", lambda row: row.val_fairness, "higher", scored=True),
    Measure("utility_mean", "mean utility per user", lambda row: row.mean_utility, "higher"),
    Measure("worst_utility", "worst user's utility", lambda row: row.worst_utility, "higher"),
    Measure("jain", "Jain's index", lambda row: row.jain, "higher", least=0.0, most=1.0),
    Measure("regret_mean", "mean regret", lambda row: row.regret, "lower", scored=True),
    Measure("price_of_fairness", "price of fairness", lambda row: row.price_of_fairness, "lower"),
    Measure("sum_w_mean", "mean sum of weights", lambda row: row.sum_w, None, drawn=False, least=0.0),
    Measure("bytes", "bytes, up and down", lambda row: row.all_bytes, "lower", size, drawn=False, least=0.0),
    Measure("deadline_misses", "slots missed at the deadline", lambda row: row.missed, "lower", least=0.0),
    Measure("virtual_seconds", "virtual time", lambda row: row.virtual_seconds, "lower", seconds, least=0.0),
    Measure(
        "wall_seconds",
        "wall time",
        lambda row: row.wall_seconds,
        None,
        seconds,
        drawn=False,
        least=0.0,
        of_method=False,
    ),
    Measure(
        "slots_per_second",
        "slots per second",
        lambda row: row.slots_per_second,
        None,
        drawn=False,
        least=0.0,
        of_method=False,
    ),
)


@dataclass(frozen=True)
class Compared:
    """One measure of one group. values: by seed. difference: from the base, over the seeds that both have."""

    measure: Measure
    group: int
    values: dict[int | None, float]
    mean: Estimate
    difference: Estimate | None
    verdict: str


def compared(groups: Sequence[Group]) -> list[Compared]:
    """Measure by measure, group by group; the base is the first group. Only finished runs are compared."""
    there = [(index, group) for index, group in enumerate(groups) if group.done]
    return [line for measure in MEASURES for line in _lines(measure, there)]


def _lines(measure: Measure, groups: Sequence[tuple[int, Group]]) -> list[Compared]:
    lines = []
    for index, group in groups:
        values = _by_seed(group, measure)
        mean = estimate([*values.values()])
        if mean is not None:
            found, verdict = _against(groups[0], (index, group), measure)
            lines.append(Compared(measure, index, values, mean.within(measure.least, measure.most), found, verdict))
    return lines


def _by_seed(group: Group, measure: Measure) -> dict[int | None, float]:
    return {row.seed: float(value) for row in group.rows if (value := measure.of(row)) is not None}


def _against(base: tuple[int, Group], other: tuple[int, Group], measure: Measure) -> tuple[Estimate | None, str]:
    """The mean difference from the base, and what it shows."""
    if other[0] == base[0]:
        return None, BASE
    if other[1].length != base[1].length:
        return None, ANOTHER_LENGTH
    if measure.scored and other[1].scoring != base[1].scoring:
        return None, ANOTHER_MEASURE
    theirs = _by_seed(base[1], measure)
    found = estimate([value - theirs[seed] for seed, value in _by_seed(other[1], measure).items() if seed in theirs])
    if found is None:
        return None, NO_COMMON_SEED
    return found, verdict(found, measure) if measure.of_method else OF_THE_MACHINE


def verdict(difference: Estimate, measure: Measure) -> str:
    """Whether a difference's interval leaves zero out, and on which side."""
    if difference.low is None or difference.high is None:
        return ONE_SEED
    if difference.low == difference.high == 0:
        return EQUAL
    if difference.low <= 0 <= difference.high:
        return NOT_TOLD_APART
    side = "higher" if difference.low > 0 else "lower"
    return side if measure.better is None else "better" if side == measure.better else "worse"


def sentences(groups: Sequence[Group], lines: Sequence[Compared]) -> list[str]:
    """Per main measure, which groups are better or worse than the base beyond chance."""
    said = []
    for measure in (one for one in MEASURES if one.drawn):
        others = [line for line in lines if line.measure is measure and line.verdict in _SHOWN]
        found = {word: [groups[line.group].label for line in others if line.verdict == word] for word in _SHOWN}
        parts = [f"{word}: {', '.join(names)}" for word, names in found.items() if names]
        if parts:
            base = next(group.label for group in groups if group.done)
            said.append(f"{measure.name[0].upper()}{measure.name[1:]}, against {base}: {'; '.join(parts)}.")
    return said


_SHOWN = ("better", "worse", EQUAL, NOT_TOLD_APART)
